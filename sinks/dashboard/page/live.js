// The connection to the dashboard's server: comes back by itself, asks, and gets replies.

const AGAIN_MS = 1000;

export class Live {
  constructor(hear, changed) {
    this.hear = hear; this.changed = changed;
    this.waiting = new Map();
    this.n = 0;
    this.open();
  }

  open() {
    const token = new URLSearchParams(location.search).get('token') || '';
    const socket = this.socket = new WebSocket(
      `ws://${location.host}/live?token=${encodeURIComponent(token)}`);
    socket.onopen = () => this.changed(true);
    socket.onmessage = ({ data }) => {
      const told = JSON.parse(data);
      if (told.type !== 'reply') return this.hear(told);
      const done = this.waiting.get(told.id);
      this.waiting.delete(told.id);
      if (done) done(told);
    };
    socket.onclose = () => {
      for (const done of this.waiting.values()) done({ ok: false, message: 'the connection broke' });
      this.waiting.clear();
      this.changed(false);
      setTimeout(() => this.open(), AGAIN_MS);
    };
  }

  watch(session) {
    this.say({ type: 'watch', session, look: !document.hidden });
  }

  // What the engine answers to a verb: { ok, result | message }.
  ask(verb, args) {
    const id = ++this.n;
    if (!this.say({ type: 'ask', id, verb, args })) {
      return Promise.resolve({ ok: false, message: 'not connected' });
    }
    return new Promise((done) => this.waiting.set(id, done));
  }

  say(told) {
    if (this.socket.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(told));
    return true;
  }
}
