let source;
let lastEventId = "";

function open() {
  source = new EventSource(`/stream?lastEventId=${encodeURIComponent(lastEventId)}`);
  source.addEventListener("greeting", (event) => {
    lastEventId = event.lastEventId;
    console.log(JSON.parse(event.data).message);
  });
}

open();
// A browser may keep a page that was left, for its Back button, and with it the connection.
addEventListener("pagehide", () => source.close());
addEventListener("pageshow", (event) => event.persisted && open());
