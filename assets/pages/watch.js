"use strict";
// A page that is served while runs go on: whenever the server says that something has changed, its <main> is
// replaced by the newer one.
(() => {
  const SOON = 1000; // milliseconds after which a lost server is asked again
  let busy = false;
  let waiting = false;

  function state(text) {
    let line = document.getElementById("watch-state");
    if (!line) {
      line = document.createElement("p");
      line.id = "watch-state";
      line.className = "note";
      line.setAttribute("role", "status");
      document.querySelector("footer.page").prepend(line);
    }
    if (line.textContent !== text) line.textContent = text;
  }

  async function renew() {
    // What changes meanwhile is fetched afterwards, once.
    if (busy) {
      waiting = true;
      return;
    }
    busy = true;
    try {
      const response = await fetch("/fragment");
      if (!response.ok) throw new Error(`status ${response.status}`);
      const parsed = new DOMParser().parseFromString(await response.text(), "text/html");
      const newer = document.adoptNode(parsed.getElementById("report"));
      document.getElementById("report").replaceWith(newer);
      window.smallvitReport.attach(newer);
      document.title = newer.querySelector("h1").textContent;
      state("live");
    } catch {
      state("the server is gone; what is shown is how it was");
    } finally {
      busy = false;
      if (waiting) {
        waiting = false;
        renew();
      }
    }
  }

  const events = new EventSource("/events");
  events.onopen = () => state("live");
  events.onmessage = renew;
  events.onerror = () => {
    state("the server is gone; what is shown is how it was");
    // A browser gives up after some errors.
    if (events.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 30 * SOON);
  };
})();
