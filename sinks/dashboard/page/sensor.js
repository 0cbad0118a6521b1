// The visitor's microphone or camera, sent to a session: only after consent, and until stopped.

const FULL = 1 << 18; // bytes on their way, from which on items are left out; their index tells it
const AGAIN_MS = 1000;
const PICTURES_HZ = 15, WIDTH = 640, QUALITY = .8;

// One shared device. `tell(text, bad)` says how it goes; `ended()` when it is over for good.
export class Sensor {
  constructor(offer, tell, ended) {
    this.offer = offer; this.tell = tell; this.ended = ended;
    this.on = false; this.sent = 0;
  }

  async start(mirror) {
    this.on = true;
    const voice = this.offer.kind === 'voice';
    try {
      this.media = await navigator.mediaDevices.getUserMedia(voice
        ? { audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false } }
        : { video: { width: WIDTH, frameRate: PICTURES_HZ } });
      if (voice) await this.listen(); else await this.watch(mirror);
    } catch (error) {
      this.stop();
      this.tell(`the browser gives no ${voice ? 'microphone' : 'camera'}: ${error.message}`, true);
      return;
    }
    this.connect();
  }

  stop() {
    this.on = false;
    clearInterval(this.timer);
    clearTimeout(this.retry);
    if (this.media) for (const track of this.media.getTracks()) track.stop();
    if (this.sound) this.sound.close();
    if (this.mirror) { this.mirror.srcObject = null; this.mirror.hidden = true; }
    if (this.socket) this.socket.close();
    this.media = this.sound = this.mirror = null;
    this.ended();
  }

  connect() {
    const { port, token, kind } = this.offer;
    const socket = this.socket = new WebSocket(
      `ws://${location.hostname}:${port}/?token=${encodeURIComponent(token)}`);
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => {
      socket.send(JSON.stringify(kind === 'voice'
        ? { kind, rate_hz: this.sound.sampleRate } : { kind }));
      this.tell(kind === 'voice' ? 'your microphone is shared' : 'your camera is shared');
    };
    socket.onclose = (event) => {
      if (!this.on) return;
      if (event.code === 4003) this.tell('somebody else shares already; trying again', true);
      this.retry = setTimeout(() => this.connect(), AGAIN_MS);
    };
  }

  send(index, bytes) {
    const socket = this.socket;
    if (!socket || socket.readyState !== WebSocket.OPEN || socket.bufferedAmount > FULL) return;
    const parcel = new Uint8Array(8 + bytes.byteLength);
    new DataView(parcel.buffer).setBigUint64(0, BigInt(index), true);
    parcel.set(new Uint8Array(bytes), 8);
    socket.send(parcel);
    this.sent += 1;
  }

  async listen() {
    this.sound = new AudioContext({ sampleRate: 16000 });
    await this.sound.audioWorklet.addModule('/microphone.js');
    const node = new AudioWorkletNode(this.sound, 'microphone', { numberOfOutputs: 0 });
    node.port.onmessage = ({ data }) => this.send(data.index, data.block.buffer);
    this.sound.createMediaStreamSource(this.media).connect(node);
    await this.sound.resume();
  }

  async watch(mirror) {
    this.mirror = mirror;
    mirror.srcObject = this.media;
    mirror.hidden = false;
    await mirror.play();
    const canvas = document.createElement('canvas'), g = canvas.getContext('2d');
    let index = 0, busy = false;
    this.timer = setInterval(() => {
      if (busy || !mirror.videoWidth) return;
      busy = true;
      const scale = Math.min(1, WIDTH / mirror.videoWidth);
      canvas.width = Math.round(mirror.videoWidth * scale);
      canvas.height = Math.round(mirror.videoHeight * scale);
      g.drawImage(mirror, 0, 0, canvas.width, canvas.height);
      canvas.toBlob(async (blob) => {
        if (blob && this.on) this.send(index++, await blob.arrayBuffer());
        busy = false;
      }, 'image/jpeg', QUALITY);
    }, 1000 / PICTURES_HZ);
  }
}
