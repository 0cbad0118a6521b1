// The page: what the server tells goes into one state, and the state onto the panels.

import { Heat, drawCost, drawFace, drawPlane, drawShares, drawTraces } from './charts.js';
import { Live } from './live.js';
import { $, make, showCost, showNote, showNow, showParts, showSources } from './panels.js';
import { Sensor } from './sensor.js';

const SPAN_S = 180, TRAIL = 40, COSTS = 120, TRACE_S = 6, PHYSIO_S = 20, ROOM = 1200, ROWS = 12;
const FRAME_MS = 45, SILENT_MS = 4000;

const fresh = () => ({ schema: null, history: [], labels: [], trail: [], costs: [], prediction: null,
  health: null, status: {}, muted: new Set(), traces: new Map(), heat: null, about: null, face: null,
  dirty: true, heard: performance.now(), recording: false, paused: false });
let state = fresh(), session = null, before = null; // `before`: shown when the connection broke
const sensors = new Map();
window.vagus = { frames: 0, messages: 0, predictions: 0, box: null }; // for whoever measures the page

const live = new Live(hear, (open) => {
  link(open ? 'connected' : 'no connection to the dashboard', open ? '' : 'bad');
  if (!open) return;
  before = session;
  session = null;
});

function hear(told) {
  window.vagus.messages += 1;
  if (told.type === 'sessions') return sessions(told.sessions);
  if (told.type === 'engine') return link('the engine does not answer', 'bad');
  if (told.session && told.session !== session) return undefined;
  const take = TAKES[told.type];
  if (take) take(told);
  state.dirty = true;
  return undefined;
}

const TAKES = {
  schema(told) {
    state.schema = told;
    const labels = new Set(Object.values(told.bundles).flatMap((bundle) => bundle.labels));
    state.labels = [...labels];
    showSources(state.schema, state.status, state.health);
  },
  history(told) {
    state.history = told.predictions;
    for (const p of state.history) learn(p.probabilities);
    state.trail = told.predictions.map((p) => p.dimensions).filter(Boolean).slice(-TRAIL);
  },
  prediction(told) {
    state.prediction = told;
    state.heard = performance.now();
    window.vagus.predictions += 1;
    learn(told.probabilities);
    if (!told.late) {
      state.history.push(told);
      while (state.history[0].t < told.t - SPAN_S) state.history.shift();
      if (told.dimensions) state.trail = [...state.trail, told.dimensions].slice(-TRAIL);
    }
    if (told.latency_ms.total != null) state.costs = [...state.costs, told.latency_ms.total].slice(-COSTS);
    showNow(told, state.labels);
    showParts(told, state.labels, state.muted, act);
    if (!told.late) link('live', '');
  },
  health(told) {
    state.health = told;
    showCost(told);
    showSources(state.schema, state.status, told);
  },
  status(told) {
    state.status = told.streams;
    showSources(state.schema, state.status, state.health);
    if (performance.now() - state.heard > SILENT_MS) {
      link(state.paused ? 'paused' : 'no prediction for some seconds', 'idle');
    }
  },
  event(told) {
    showNote(told);
    if (told.code === 'recording.started') recording(true);
    if (told.code === 'recording.stopped' || told.code === 'recording.full') recording(false);
    if (told.code === 'session.left' || told.code === 'shutdown') link('the session is over', 'idle');
  },
  marker: showNote,
  sensors: (told) => offers(told.sensors),
  preview(told) {
    for (const [name, stream] of Object.entries(told.streams)) PREVIEWS[stream.kind]?.(name, stream);
  },
};

function learn(probabilities) {
  for (const name of Object.keys(probabilities || {})) {
    if (!state.labels.includes(name)) state.labels.push(name);
  }
}

const PREVIEWS = { eeg: trace, physio: trace, voice: sound, face: picture };

function trace(name, stream) {
  let rows = state.traces.get(name);
  if (!rows || rows[0].rate !== stream.rate_hz || rows.all !== stream.channels.join()) {
    const every = Math.max(1, Math.ceil(stream.channels.length / ROWS));
    rows = stream.channels.map((channel, at) => ({ at, channel })).filter(({ at }) => at % every === 0)
      .map(({ at, channel }) => ({ at, rate: stream.rate_hz, kind: stream.kind, unit: stream.unit,
        name: stream.kind === 'eeg' ? channel : name, hue: stream.kind === 'eeg' ? 0 : state.traces.size,
        room: ROOM, n: 0, low: new Float32Array(ROOM), high: new Float32Array(ROOM) }));
    rows.all = stream.channels.join();
    rows.total = stream.n_channels;
    state.traces.set(name, rows);
  }
  const n = stream.low[0].length;
  for (const row of rows) {
    for (let i = 0; i < n; i++) {
      const low = stream.low[row.at][i], high = stream.high[row.at][i];
      row.low[row.n % ROOM] = low === null ? NaN : low;
      row.high[row.n % ROOM] = high === null ? NaN : high;
      row.n += 1;
    }
  }
}

function sound(name, stream) {
  if (!state.heat || state.heat.bands !== stream.bands) {
    state.heat = new Heat(stream.bands, Math.round(8 * stream.rate_hz));
  }
  state.about = stream;
  state.heat.add(Uint8Array.from(atob(stream.columns), (c) => c.charCodeAt(0)));
}

async function picture(name, stream) {
  const seen = state;
  if (!stream.jpeg) {
    seen.face = { why: 'Pictures leave the engine only where its config has a dashboard.' };
    return;
  }
  const bytes = Uint8Array.from(atob(stream.jpeg), (c) => c.charCodeAt(0));
  try {
    const bitmap = await createImageBitmap(new Blob([bytes], { type: 'image/jpeg' }));
    seen.face = { bitmap, box: stream.box, at: performance.now() };
    window.vagus.box = stream.box;
  } catch { seen.face = { why: 'A picture came that cannot be shown.' }; }
  seen.dirty = true;
}

function showFace() {
  const { bitmap, box, at, why } = state.face || {}, stale = performance.now() - at > 1500;
  drawFace($('c-face'), bitmap, box, stale);
  $('n-face').textContent = why || (stale ? 'No new picture comes.' : bitmap && !box
    ? 'The whole picture: no detector marks a face in it.' : '');
}

// -- what is drawn, frame by frame ---------------------------------------------------------------

let drawn = 0;
function frame(now) {
  requestAnimationFrame(frame);
  if (now - drawn < FRAME_MS || document.hidden) return;
  drawn = now;
  window.vagus.frames += 1;
  const last = state.history[state.history.length - 1];
  const t = last ? last.t + Math.min(2, (performance.now() - state.heard) / 1000) : 0;
  const known = last ? t - state.history[0].t : 0, span = Math.min(SPAN_S, 60 * Math.ceil(known / 60) || 60);
  drawShares($('c-time'), state.history, state.labels, t, span);
  if (!state.dirty) return;
  state.dirty = false;
  drawPlane($('c-plane'), state.trail);
  drawCost($('c-cost'), state.costs);
  showFace();
  const all = [...state.traces.values()], eeg = all.filter((rows) => rows[0].kind === 'eeg').flat();
  scale(eeg);
  const total = all.find((rows) => rows[0].kind === 'eeg')?.total;
  eeg.note = eeg.length ? `${eeg.length} of ${total} channels, ${Math.round(eeg[0].scale)} ${eeg[0].unit} a row` : '';
  drawTraces($('c-eeg'), eeg, TRACE_S);
  drawTraces($('c-physio'), all.filter((rows) => rows[0].kind !== 'eeg').flat(), PHYSIO_S);
  if (state.heat) state.heat.draw($('c-voice'), state.about);
}

// One scale for all EEG rows, so that their sizes compare: the median of their ranges.
function scale(rows) {
  const spans = rows.map((row) => {
    const shown = Math.min(row.n, ROOM, Math.round(TRACE_S * row.rate));
    let min = Infinity, max = -Infinity, sum = 0, n = 0;
    for (let i = row.n - shown; i < row.n; i++) {
      const low = row.low[i % ROOM], high = row.high[i % ROOM];
      if (Number.isNaN(low)) continue;
      min = Math.min(min, low);
      max = Math.max(max, high);
      sum += low + high;
      n += 2;
    }
    row.mean = n ? sum / n : 0;
    return n ? max - min : 0;
  }).filter((span) => span > 0).sort((a, b) => a - b);
  const middle = spans.length ? spans[spans.length >> 1] : 1;
  for (const row of rows) row.scale = middle;
}

// -- what can be done ----------------------------------------------------------------------------

function say(text, bad = false) {
  $('told').textContent = text;
  $('told').className = bad ? 'bad' : '';
}

function link(text, kind) {
  const chip = $('link'), name = `chip${kind ? ` ${kind}` : ''}`;
  if (chip.textContent !== text) chip.textContent = text;
  if (chip.className !== name) chip.className = name;
}

const DONE = { mark: (a) => `marked “${a.value}”`, mute: (a) => `${a.stream} is muted`,
  unmute: (a) => `${a.stream} counts again`, calibrate: (a) => `learning ${a.stream} for ${a.seconds} s`,
  record: () => 'recording', stop_record: () => 'the recording is closed', pause: () => 'paused',
  resume: () => 'predictions go on' };

async function act(verb, args) {
  const reply = await live.ask(verb, args);
  say(reply.ok ? DONE[verb](args) : `${verb}: ${reply.message}`, !reply.ok);
  if (!reply.ok) return false;
  if (verb === 'mute') state.muted.add(args.stream);
  if (verb === 'unmute') state.muted.delete(args.stream);
  if (state.prediction) showParts(state.prediction, state.labels, state.muted, act);
  return true;
}

function sessions(names) {
  const list = $('session');
  list.replaceChildren(...names.map((name) => make('option', { text: name })));
  if (names.length && !names.includes(session)) choose(names.includes(before) ? before : names[0]);
  else if (session) list.value = session;
}

function choose(name) {
  session = name;
  state = fresh();
  $('session').value = name;
  $('log').replaceChildren();
  recording(false);
  paused(false);
  if (name !== before) withdraw();
  before = name;
  live.watch(name);
}

// What is shared is shared with one session, and not with the next.
function withdraw() {
  for (const sensor of sensors.values()) if (sensor.on) sensor.stop();
  sensors.clear();
  $('offers').replaceChildren();
  $('share').hidden = true;
}

function recording(on) {
  state.recording = on;
  $('record').setAttribute('aria-pressed', String(on));
  $('record').lastChild.textContent = on ? 'Stop recording' : 'Record';
  $('raw').disabled = on;
}

function paused(on) {
  state.paused = on;
  $('pause').setAttribute('aria-pressed', String(on));
  $('pause').textContent = on ? 'Resume' : 'Pause';
}

function offers(given) {
  $('share').hidden = Object.keys(given).length === 0;
  for (const [name, offer] of Object.entries(given)) {
    if (sensors.has(name)) { sensors.get(name).offer = offer; continue; }
    const what = offer.kind === 'voice' ? 'microphone' : 'camera';
    const button = make('button', { text: `Share ${what}` });
    button.type = 'button';
    button.dataset.stream = name;
    button.disabled = !$('agree').checked;
    const show = (on) => {
      button.setAttribute('aria-pressed', String(on));
      button.textContent = on ? `Stop sharing ${what}` : `Share ${what}`;
    };
    const sensor = new Sensor(offer, say, () => show(false));
    sensors.set(name, sensor);
    button.onclick = () => {
      if (sensor.on) { sensor.stop(); say(`your ${what} is yours again`); return; }
      show(true);
      sensor.start($('mirror'));
    };
    $('offers').append(button);
  }
}

$('session').onchange = ({ target }) => choose(target.value);
$('marking').onsubmit = async (event) => {
  event.preventDefault();
  const value = $('mark').value.trim() || 'mark';
  if (await act('mark', { value })) $('mark').value = '';
};
$('record').onclick = async () => {
  if (state.recording) { if (await act('stop_record', {})) recording(false); return; }
  if (await act('record', { raw: $('raw').checked })) recording(true);
};
$('pause').onclick = async () => {
  if (await act(state.paused ? 'resume' : 'pause', {})) paused(!state.paused);
};
$('agree').onchange = ({ target }) => {
  for (const button of $('offers').children) button.disabled = !target.checked;
  if (!target.checked) for (const sensor of sensors.values()) if (sensor.on) sensor.stop();
};
document.addEventListener('visibilitychange', () => { if (session) live.watch(session); });
addEventListener('resize', () => { state.dirty = true; });
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { state.dirty = true; });
requestAnimationFrame(frame);
