// Browsers start no worker in a page that was opened as a file (file://). There the search runs in a hidden frame instead,
// behind the part of a worker's interface that it uses: messages both ways, and importScripts.
if (window.location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super();
      this.onmessage = null;
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inner = frame.contentWindow;
      const base = new URL(url, document.baseURI);
      const load = (address) =>
        new Promise((resolve, reject) => {
          const script = frame.contentDocument.createElement("script");
          script.src = new URL(address, base).href;
          script.onload = resolve;
          script.onerror = () => reject(new Error(`cannot load ${address}`));
          frame.contentDocument.body.append(script);
        });
      inner.importScripts = async (...addresses) => {
        for (const address of addresses) await load(address);
      };
      inner.postMessage = (data) => {
        const message = new MessageEvent("message", { data });
        this.dispatchEvent(message);
        if (this.onmessage) this.onmessage(message);
      };
      this.frame = frame;
      this.ready = load(base.href);
    }
    async postMessage(data) {
      await this.ready;
      const inner = this.frame.contentWindow;
      inner.dispatchEvent(new inner.MessageEvent("message", { data }));
    }
    terminate() {
      this.frame.remove();
    }
  };
  window.Worker = window.IFrameWorker;
}
