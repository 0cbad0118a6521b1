// Drawing on canvases: each function takes a canvas and the data, and draws all of it.

let scheme = null;

// The colours of the present scheme, read from the style sheet.
export function colours() {
  if (scheme) return scheme;
  const style = getComputedStyle(document.documentElement);
  const get = (name) => style.getPropertyValue(`--${name}`).trim();
  scheme = { card: get('card'), line: get('line'), ink: get('ink'), soft: get('soft'),
    accent: get('accent'), bad: get('bad'), track: get('track'),
    of: Array.from({ length: 9 }, (_, i) => get(`c${i}`)) };
  return scheme;
}

matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { scheme = null; });

// The canvas cleared, at the screen's own resolution: { g, w, h } in CSS pixels.
function fresh(canvas) {
  const dpr = devicePixelRatio || 1, w = canvas.clientWidth, h = canvas.clientHeight;
  if (canvas.width !== Math.round(w * dpr) || canvas.height !== Math.round(h * dpr)) {
    canvas.width = Math.round(w * dpr);
    canvas.height = Math.round(h * dpr);
  }
  const g = canvas.getContext('2d');
  g.setTransform(dpr, 0, 0, dpr, 0, 0);
  g.clearRect(0, 0, w, h);
  g.font = '12px system-ui, "DejaVu Sans", sans-serif';
  g.textBaseline = 'middle';
  return { g, w, h };
}

function waiting(g, w, h, why) {
  g.fillStyle = colours().soft;
  g.textAlign = 'center';
  g.fillText(why, w / 2, h / 2);
}

// Stacked shares of the labels; `truth` is a strip above where it is known.
export function drawShares(canvas, history, labels, now, span) {
  const { g, w, h } = fresh(canvas), c = colours();
  if (!history.length) return waiting(g, w, h, 'waiting for predictions');
  const right = w - 66, foot = h - 18, known = history.some((p) => p.truth), top = known ? 16 : 0;
  const x = (t) => Math.round(right - (now - t) / span * right);
  g.fillStyle = c.track;
  g.fillRect(0, top, right, foot - top);
  const ends = history.map((p, i) => Math.min(i + 1 < history.length ? history[i + 1].t : now, p.t + 5));
  const edges = new Float32Array(history.length);
  labels.forEach((label, k) => {
    g.fillStyle = c.of[k % 9];
    history.forEach((p, i) => {
      const share = p.probabilities ? p.probabilities[label] || 0 : 0;
      const from = Math.max(0, x(p.t)), to = x(ends[i]);
      if (share > 0 && to > 0) {
        const y = foot - edges[i] * (foot - top), tall = share * (foot - top);
        g.fillRect(from, y - tall, to - from, tall);
      }
      edges[i] += share;
    });
  });
  if (known) strip(g, history, ends, labels, x, right);
  axis(g, right, foot, span);
  named(g, history[history.length - 1], labels, right + 6, top, foot);
}

function strip(g, history, ends, labels, x, right) {
  const c = colours();
  history.forEach((p, i) => {
    const k = labels.indexOf(p.truth), from = Math.max(0, x(p.t)), to = x(ends[i]);
    if (k < 0 || to <= 0) return;
    g.fillStyle = c.of[k % 9];
    g.fillRect(from, 2, to - from, 8);
  });
  g.fillStyle = c.soft;
  g.textAlign = 'left';
  g.fillText('truth', right + 6, 7);
}

function axis(g, right, foot, span) {
  const c = colours();
  g.fillStyle = c.soft;
  g.strokeStyle = c.line;
  for (let s = 0; s <= span; s += 60) {
    const at = right - s / span * right;
    g.textAlign = s === 0 ? 'right' : s === span ? 'left' : 'center';
    g.fillText(s === 0 ? 'now' : `−${s / 60} min`, at, foot + 11);
  }
}

// The labels beside their bands, pushed apart where they would overlap.
function named(g, last, labels, x, top, foot) {
  const c = colours(), rows = [];
  let below = 0;
  labels.forEach((label, k) => {
    const share = last.probabilities ? last.probabilities[label] || 0 : 0;
    rows.push({ label, k, y: foot - (below + share / 2) * (foot - top) });
    below += share;
  });
  let floor = foot - 6;
  for (const row of rows) { row.y = Math.min(row.y, floor); floor = row.y - 14; }
  let ceiling = top + 6;
  for (const row of rows.slice().reverse()) {
    row.y = Math.max(row.y, ceiling);
    ceiling = row.y + 14;
  }
  g.textAlign = 'left';
  for (const row of rows) {
    g.fillStyle = c.of[row.k % 9];
    g.fillRect(x, row.y - 4, 8, 8);
    g.fillStyle = c.ink;
    g.fillText(row.label, x + 12, row.y, 52);
  }
}

// Where the person stands, with the trail of the last points.
export function drawPlane(canvas, trail) {
  const { g, w, h } = fresh(canvas), c = colours();
  const side = Math.min(w - 40, h - 34), left = (w - side) / 2 + 8, top = 4;
  g.strokeStyle = c.line;
  g.strokeRect(left, top, side, side);
  g.beginPath();
  g.moveTo(left + side / 2, top); g.lineTo(left + side / 2, top + side);
  g.moveTo(left, top + side / 2); g.lineTo(left + side, top + side / 2);
  g.stroke();
  g.fillStyle = c.soft;
  g.textAlign = 'center';
  g.fillText('unpleasant', left + side * .2, top + side + 12);
  g.fillText('pleasant', left + side * .84, top + side + 12);
  g.save();
  g.translate(left - 11, top + side / 2);
  g.rotate(-Math.PI / 2);
  g.fillText('calm', -side * .36, 0);
  g.fillText('aroused', side * .32, 0);
  g.restore();
  if (!trail.length) return waiting(g, w, top + side / 2 + 20, 'no bundle tells these');
  const at = (p) => [left + p.valence * side, top + (1 - p.arousal) * side];
  g.strokeStyle = g.fillStyle = c.accent;
  g.lineWidth = 2;
  for (let i = 1; i < trail.length; i++) {
    g.globalAlpha = .1 + .8 * i / trail.length;
    g.beginPath(); g.moveTo(...at(trail[i - 1])); g.lineTo(...at(trail[i])); g.stroke();
  }
  g.globalAlpha = 1;
  g.lineWidth = 1;
  const [x, y] = at(trail[trail.length - 1]);
  g.beginPath(); g.arc(x, y, 7, 0, 7); g.fill();
  g.strokeStyle = c.card;
  g.lineWidth = 2;
  g.stroke();
  g.lineWidth = 1;
}

// Rows of lows and highs: { name, unit, low, high, n (of what came), room, rate }.
export function drawTraces(canvas, rows, span) {
  const { g, w, h } = fresh(canvas), c = colours();
  if (!rows.length) return waiting(g, w, h, 'no signal');
  const left = Math.min(72, 14 + 7 * Math.max(...rows.map((r) => r.name.length)));
  const tall = (h - 16) / rows.length;
  rows.forEach((row, k) => {
    const middle = (k + .5) * tall;
    g.fillStyle = c.soft;
    g.textAlign = 'right';
    g.fillText(row.name, left - 8, row.scale ? middle : middle - 7, left - 8);
    if (!row.scale) g.fillText(row.unit, left - 8, middle + 8, left - 8);
    const shown = Math.min(row.n, row.room, Math.round(span * row.rate));
    if (shown < 2) return;
    let min = Infinity, max = -Infinity;
    for (let i = row.n - shown; i < row.n; i++) {
      const low = row.low[i % row.room], high = row.high[i % row.room];
      if (low < min) min = low;
      if (high > max) max = high;
    }
    const wide = row.scale ? row.scale : max - min || 1, centre = row.scale ? row.mean : (min + max) / 2;
    const y = (v) => middle - Math.max(-.62, Math.min(.62, (v - centre) / wide * .9)) * tall;
    const step = (w - left) / (span * row.rate), from = w - shown * step;
    g.strokeStyle = c.of[row.hue % 9];
    g.lineWidth = 1.1;
    g.beginPath();
    let pen = false;
    for (let i = 0; i < shown; i++) {
      const j = (row.n - shown + i) % row.room, low = row.low[j];
      if (Number.isNaN(low)) { pen = false; continue; }
      const x = from + i * step;
      if (pen) g.lineTo(x, y(low)); else g.moveTo(x, y(low));
      g.lineTo(x, y(row.high[j]));
      pen = true;
    }
    g.stroke();
  });
  g.fillStyle = c.soft;
  g.textAlign = 'left';
  g.fillText(`${span} s`, left, h - 7);
  g.textAlign = 'right';
  g.fillText(rows.note || '', w, h - 7);
}

// Anchors of the cividis map (Nuñez, Anderton, Renslow 2018), which every eye reads alike.
const CIVIDIS = [[0, 32, 77], [64, 77, 107], [124, 123, 120], [187, 174, 106], [255, 234, 70]];
const HEAT = new Uint8ClampedArray(1024);
for (let v = 0; v < 256; v++) {
  const at = v / 255 * 4, k = Math.min(3, Math.floor(at)), f = at - k;
  for (let j = 0; j < 3; j++) HEAT[4 * v + j] = CIVIDIS[k][j] * (1 - f) + CIVIDIS[k + 1][j] * f;
  HEAT[4 * v + 3] = 255;
}

// A strip of columns that goes round: `add` writes, `draw` shows the newest on the right.
export class Heat {
  constructor(bands, room) {
    this.bands = bands; this.room = room; this.n = 0;
    this.strip = new OffscreenCanvas(room, bands);
    this.g = this.strip.getContext('2d');
    this.column = new ImageData(1, bands);
  }

  add(levels) {
    for (let at = 0; at + this.bands <= levels.length; at += this.bands) {
      for (let b = 0; b < this.bands; b++) {
        const level = levels[at + this.bands - 1 - b];
        this.column.data.set(HEAT.subarray(4 * level, 4 * level + 4), 4 * b);
      }
      this.g.putImageData(this.column, this.n % this.room, 0);
      this.n += 1;
    }
  }

  draw(canvas, about) {
    const { g, w, h } = fresh(canvas), left = 44, foot = h - 16, wide = w - left;
    g.fillStyle = `rgb(${CIVIDIS[0]})`;
    g.fillRect(left, 0, wide, foot);
    const split = this.n % this.room, one = wide / this.room;
    g.imageSmoothingEnabled = true;
    if (this.n >= this.room) {
      const old = this.room - split;
      g.drawImage(this.strip, split, 0, old, this.bands, left, 0, old * one, foot);
    }
    if (split) g.drawImage(this.strip, 0, 0, split, this.bands, w - split * one, 0, split * one, foot);
    g.fillStyle = colours().soft;
    g.textAlign = 'right';
    const mel = (hz) => Math.log1p(hz / 700), from = mel(about.low_hz), to = mel(about.high_hz);
    for (const hz of [300, 1000, 3000, 8000]) {
      if (hz > about.high_hz) continue;
      const y = foot - (mel(hz) - from) / (to - from) * foot;
      g.fillText(hz < 1000 ? `${hz}` : `${hz / 1000} k`, left - 8, Math.max(7, y));
    }
    g.fillText('Hz', left - 8, foot + 9);
    g.textAlign = 'left';
    g.fillText(`${Math.round(this.room / about.rate_hz)} s`, left, foot + 9);
  }
}

// A picture as large as fits, and its box.
export function drawFace(canvas, picture, box, stale) {
  const { g, w, h } = fresh(canvas);
  if (!picture) return waiting(g, w, h, 'no picture');
  g.globalAlpha = stale ? .35 : 1;
  const scale = Math.min(w / picture.width, h / picture.height);
  const wide = picture.width * scale, tall = picture.height * scale, left = (w - wide) / 2;
  g.imageSmoothingEnabled = true;
  g.drawImage(picture, left, 0, wide, tall);
  g.globalAlpha = 1;
  if (!box || stale) return;
  for (const [colour, width] of [['#000', 4], ['#fff', 2]]) {
    g.strokeStyle = colour;
    g.lineWidth = width;
    g.strokeRect(left + box[0] * scale, box[1] * scale, box[2] * scale, box[3] * scale);
  }
  g.lineWidth = 1;
}

// The latest latencies as columns, on a scale that starts at zero.
export function drawCost(canvas, values) {
  const { g, w, h } = fresh(canvas), c = colours();
  if (!values.length) return waiting(g, w, h, 'no prediction yet');
  const top = Math.max(1, ...values), nice = 10 ** Math.ceil(Math.log10(top)), left = 56;
  const scale = [.2, .5, 1].map((f) => f * nice).find((v) => v >= top), one = (w - left) / 120;
  g.strokeStyle = c.line;
  g.beginPath(); g.moveTo(left, h - .5); g.lineTo(w, h - .5); g.moveTo(left, .5); g.lineTo(w, .5);
  g.stroke();
  g.fillStyle = c.soft;
  g.textAlign = 'right';
  g.fillText(`${scale} ms`, left - 6, 7);
  g.fillText('0', left - 6, h - 7);
  g.fillStyle = c.of[0];
  values.slice(-120).forEach((v, i, all) => {
    const tall = v / scale * (h - 2);
    g.fillRect(w - (all.length - i) * one, h - tall, Math.max(1, one - 1), tall);
  });
}
