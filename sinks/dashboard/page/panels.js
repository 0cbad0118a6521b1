// The panels that are text: each function fills one from what is known.

import { colours } from './charts.js';

export const $ = (id) => document.getElementById(id);
export const percent = (share) => share == null ? '–' : `${Math.round(100 * share)} %`;

// An element with its class, text and children; nothing that comes in is ever taken for HTML.
export function make(name, { kind, text, title } = {}, ...children) {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  if (text != null) made.textContent = text;
  if (title) made.title = title;
  made.append(...children);
  return made;
}

function bar(share, hue) {
  const fill = make('i');
  fill.style.width = percentage(share);
  fill.style.background = hue;
  return make('span', { kind: 'bar' }, fill);
}

const percentage = (share) => `${Math.max(0, Math.min(100, 100 * share)).toFixed(1)}%`;

export function showNow(p, labels) {
  const c = colours();
  $('label').textContent = p.label || (p.probabilities ? 'unsure' : 'no prediction');
  $('sure').textContent = p.probabilities
    ? `${percent(p.confidence)} confident${p.truth ? `, truth ${p.truth}` : ''}`
    : `missing: ${p.missing.join(', ')}`;
  const list = $('bars');
  if (list.children.length !== labels.length) {
    list.replaceChildren(...labels.map((name, k) => make('li', {},
      make('span', { text: name }), bar(0, c.of[k % 9]), make('span', { text: '–' }))));
  }
  labels.forEach((name, k) => {
    const row = list.children[k], share = p.probabilities ? p.probabilities[name] || 0 : 0;
    row.children[0].textContent = name;
    row.children[1].firstChild.style.width = percentage(share);
    row.children[1].firstChild.style.background = c.of[k % 9];
    row.children[2].textContent = p.probabilities ? percent(share) : '–';
  });
}

// How far each modality moves the log odds of the first label against the second, per modality in
// use: with the mean of log probabilities these add up to the whole.
function pulls(p) {
  if (!p.probabilities) return {};
  const order = Object.entries(p.probabilities).sort((a, b) => b[1] - a[1]);
  if (order.length < 2) return {};
  const [first, second] = [order[0][0], order[1][0]];
  const used = Object.entries(p.modalities).filter(([, m]) => m.used && m.probabilities);
  const odds = (m) => Math.log((m.probabilities[first] || 1e-6) / (m.probabilities[second] || 1e-6));
  return Object.fromEntries(used.map(([name, m]) =>
    [name, { pull: odds(m) / used.length, first, second }]));
}

export function showParts(p, labels, muted, act) {
  const list = $('parts'), names = Object.keys(p.modalities), drawn = pulls(p);
  if ([...list.children].map((row) => row.dataset.name).join() !== names.join()) {
    list.replaceChildren(...names.map((name) => part(name, act)));
  }
  names.forEach((name, i) => {
    const row = list.children[i], m = p.modalities[name];
    const [, says, pull, sound, out] = row.children;
    for (const cell of [says, pull, sound]) cell.hidden = !m.used;
    out.hidden = Boolean(m.used);
    mutedButton(row, name, muted.has(name) || m.reason === 'muted');
    if (!m.used) {
      const wrong = faults(m);
      out.textContent = `not used: ${m.reason || 'unknown'}${wrong && `, ${wrong}`}`;
      return;
    }
    fillPart(m, drawn[name], labels, says, pull, sound);
  });
}

function part(name, act) {
  const mute = make('button', { text: 'Mute' }), learn = make('button', { text: 'Calibrate' });
  mute.type = learn.type = 'button';
  mute.dataset.do = 'mute';
  learn.dataset.do = 'calibrate';
  learn.setAttribute('aria-label', `Calibrate ${name} for 30 seconds`);
  learn.title = 'Learn this person’s baseline over the next 30 seconds';
  mute.onclick = () => act(mute.getAttribute('aria-pressed') === 'true' ? 'unmute' : 'mute',
    { stream: name });
  learn.onclick = () => act('calibrate', { stream: name, seconds: 30 });
  const pull = make('span', {}, make('span', { kind: 'pull' }, make('i')), make('small'));
  const row = make('li', {}, make('b', { text: name }), make('span', {}, make('span'), make('small')),
    pull, make('span', {}, bar(0, ''), make('small')), make('span', { kind: 'out' }),
    make('span', { kind: 'do' }, mute, learn));
  row.dataset.name = name;
  return row;
}

function mutedButton(row, name, muted) {
  const button = row.querySelector('[data-do=mute]');
  button.setAttribute('aria-pressed', String(muted));
  button.setAttribute('aria-label', `${muted ? 'Unmute' : 'Mute'} ${name}`);
  button.textContent = muted ? 'Unmute' : 'Mute';
}

function fillPart(m, drawn, labels, says, pull, sound) {
  const c = colours(), own = Object.entries(m.probabilities || {}).sort((a, b) => b[1] - a[1])[0];
  says.children[0].textContent = own ? `${own[0]} ${percent(own[1])}` : '–';
  says.children[1].textContent = m.bundle || '';
  const fill = pull.firstChild.firstChild, value = drawn ? drawn.pull : 0;
  const wide = Math.min(50, Math.abs(value) * 25);
  fill.style.width = `${wide}%`;
  fill.style.left = value < 0 ? `${50 - wide}%` : '50%';
  const name = drawn ? (value < 0 ? drawn.second : drawn.first) : '';
  fill.style.background = c.of[Math.max(0, labels.indexOf(name)) % 9];
  pull.children[1].textContent = drawn
    ? `${Math.abs(value).toFixed(1)} towards ${name}` : 'says nothing alone';
  const meter = sound.children[0].firstChild;
  meter.style.width = percentage(m.quality ?? 0);
  meter.style.background = (m.quality ?? 0) < .5 ? c.bad : c.of[8];
  const full = m.filled < .995 && m.filled !== m.quality ? `, ${percent(m.filled)} full` : '';
  const wrong = faults(m);
  sound.children[1].textContent = `quality ${percent(m.quality)}${full}${wrong && `: ${wrong}`}`;
  sound.title = wrong && faults(m, Infinity);
}

// What is wrong with which channels, as `flat T3, F7; line noise`; up to `most` are named.
function faults(m, most = 3) {
  const where = {};
  for (const [channel, names] of Object.entries(m.faults || {})) {
    for (const name of names) (where[name] ||= []).push(channel);
  }
  return Object.entries(where).map(([name, channels]) => {
    if (channels.includes('all')) return name;
    return channels.length > most ? `${name} on ${channels.length} channels` : `${name} ${channels.join(', ')}`;
  }).join('; ');
}

const GOOD = { live: 'live', ended: 'ended', waiting: 'waiting', lost: 'lost', refused: 'refused' };

export function showSources(schema, status, health) {
  const names = Object.keys({ ...status, ...(schema ? schema.streams : {}) });
  $('list').replaceChildren(...names.map((name) => {
    const about = schema && schema.streams[name], state = status[name] || 'waiting';
    const stalled = health && health.degraded.some((why) => why === `${name}: stalled`);
    const bad = stalled || state === 'lost' || state === 'refused';
    const idle = state === 'waiting' || state === 'ended';
    const chip = make('span', { kind: `chip${bad ? ' bad' : idle ? ' idle' : ''}`,
      text: stalled ? 'stalled' : GOOD[state] || state });
    const told = [];
    if (about) {
      told.push(about.rate_hz ? `${about.rate_hz} Hz` : 'irregular',
        about.channels.length === 1 ? '1 channel' : `${about.channels.length} channels`, about.unit);
    }
    const lag = health && health.lag_s[name], lost = drops(health, name);
    if (lag != null) told.push(`${Math.max(0, lag).toFixed(2)} s behind`);
    told.push(`${lost} dropped`);
    return make('li', {}, make('b', { text: name }), chip, make('small', { text: told.join(' · ') }));
  }));
}

function drops(health, stream) {
  let n = 0;
  for (const stage of Object.values((health && health.counters[stream]) || {})) {
    for (const lost of Object.values(stage.dropped || {})) n += lost;
  }
  return n;
}

const STAGES = { total: 'sample to prediction', wait: 'waiting', steps: 'steps', infer: 'inference' };

export function showCost(health) {
  const cell = (v) => make('td', { text: v == null ? '–' : v.toFixed(1) });
  $('stages').tBodies[0].replaceChildren(...Object.entries(STAGES).map(([stage, name]) => {
    const about = health.latency_ms[stage] || {}, head = make('th', { text: name });
    head.scope = 'row';
    return make('tr', {}, head, cell(about.p50), cell(about.p95), cell(about.p99));
  }));
  const reasons = {};
  for (const stages of Object.values(health.counters)) {
    for (const stage of Object.values(stages)) {
      for (const [why, n] of Object.entries(stage.dropped || {})) reasons[why] = (reasons[why] || 0) + n;
    }
  }
  const told = Object.entries(reasons).filter(([, n]) => n).map(([why, n]) => `${n} ${why}`);
  $('lost').textContent = `Dropped: ${told.join(', ') || 'nothing'}.`
    + (health.degraded.length ? ` Degraded: ${health.degraded.join('; ')}.` : '');
}

const BAD = new Set(['source.lost', 'source.refused', 'source.frozen', 'source.stalled',
  'stream.overrun', 'window.invalid', 'bundle.refused', 'recording.full', 'degraded']);

// Nested maps and lists as words.
function plain(value) {
  if (value === null || typeof value !== 'object') return String(value);
  if (Array.isArray(value)) return value.map(plain).join(' ');
  return Object.entries(value).map(([key, part]) => [key, plain(part)]).filter(([, part]) => part)
    .map(([key, part]) => key === 'why' ? part : `${key} ${part}`).join(', ');
}

export function showNote(note) {
  const at = note.t_wall == null ? `${note.t.toFixed(1)} s`
    : new Date(1000 * note.t_wall).toLocaleTimeString([], { hour12: false });
  const detail = plain(note.detail || {});
  const what = note.type === 'marker' ? `marker “${note.value}”`
    : [note.code, note.stream, detail].filter(Boolean).join(' · ');
  const log = $('log');
  log.prepend(make('li', {}, make('time', { text: at }),
    make('span', { kind: BAD.has(note.code) ? 'bad' : '', text: what })));
  while (log.children.length > 100) log.lastChild.remove();
}
