// In the sound's own thread: samples, gathered to blocks of 16 bits with their index.

const BLOCK = 640;

class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.n = 0;
    this.block = new Int16Array(BLOCK);
    this.filled = 0;
  }

  process(inputs) {
    const channels = inputs[0];
    if (!channels.length) return true;
    for (let i = 0; i < channels[0].length; i++) {
      let sum = 0;
      for (const channel of channels) sum += channel[i];
      const level = Math.max(-1, Math.min(1, sum / channels.length));
      this.block[this.filled++] = Math.round(level * 32767);
      if (this.filled === BLOCK) {
        this.port.postMessage({ index: this.n, block: this.block });
        this.n += BLOCK;
        this.filled = 0;
        this.block = new Int16Array(BLOCK);
      }
    }
    return true;
  }
}

registerProcessor('microphone', Microphone);
