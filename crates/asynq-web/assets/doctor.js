// The check of the data on the page of the findings: it asks the API part after part, and shows each breach as it comes.
"use strict";

(() => {
  const box = document.querySelector("[data-doctor]");
  if (!box) return;
  const part = (name) => box.querySelector(`[data-${name}]`);
  const [go, stop, told, list, repair] = ["go", "stop", "told", "breaches", "repair"].map(part);
  const template = document.getElementById("breach");
  const base = document.body.dataset.base || "./";
  const tones = { repaired: "good", can_be_repaired: "warning", left: "bad", gone: "neutral" };
  const words = { repaired: "repaired", can_be_repaired: "can be repaired", left: "cannot be repaired", gone: "gone" };
  const number = (count) => count.toLocaleString("en");
  const MOST = 500; // Breaches that are shown. The others are counted.
  let runs = null; // The check or the repair that runs.

  function show(breach) {
    if (list.children.length >= MOST) return;
    const item = template.content.cloneNode(true);
    const put = (name, text) => (item.querySelector(`[data-${name}]`).textContent = text);
    const line = item.querySelector(".finding");
    line.classList.add(tones[breach.result] || "neutral");
    const badge = item.querySelector(".badge");
    badge.classList.add(tones[breach.result] || "neutral");
    badge.textContent = words[breach.result] || breach.result;
    const queue = item.querySelector("a");
    queue.textContent = breach.queue;
    queue.href = base + "queues/" + encodeURIComponent(breach.queue);
    put("breach", breach.breach);
    put("effect", breach.effect);
    put("cause", breach.cause);
    put("mends", breach.detail || breach.repair);
    list.append(item);
  }

  async function ask(path, body) {
    const answer = await fetch(base + path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRF-Token": document.querySelector("meta[name=csrf-token]")?.content || "" },
      body: JSON.stringify(body),
    });
    const json = await answer.json().catch(() => ({}));
    if (answer.ok) return json;
    if (answer.status === 429 && runs) {
      await new Promise((wait) => setTimeout(wait, 1000 * Number(answer.headers.get("Retry-After") || 1)));
      return runs ? ask(path, body) : null;
    }
    throw new Error(json.detail || `the server answered ${answer.status}`);
  }

  // Goes through all parts. `first` is the answer of the first one, if it is there already.
  async function walk(path, reason, verb, first) {
    const run = (runs = {});
    const sum = { queues: 0, looked: 0, breaches: 0, can: 0, repaired: 0 };
    list.replaceChildren();
    repair?.setAttribute("hidden", "");
    go.disabled = true;
    stop.hidden = false;
    const counts = () => `${number(sum.queues)} ${sum.queues === 1 ? "queue" : "queues"} and ${number(sum.looked)} ids and keys`;
    try {
      let answer = first;
      let place = null;
      for (;;) {
        told.textContent = `${verb}: ${counts()} so far, ${sum.breaches} breaches.`;
        answer ??= await ask(path, { ...(place ? { place } : {}), ...(reason ? { reason } : {}) });
        if (runs !== run || !answer) {
          told.textContent = `Stopped after ${counts()}, ${sum.breaches} breaches.`;
          return;
        }
        answer.breaches.forEach(show);
        sum.queues += answer.queues;
        sum.looked += answer.looked_at;
        sum.breaches += answer.breaches.length;
        sum.can += answer.breaches.filter((breach) => breach.result === "can_be_repaired").length;
        sum.repaired += answer.breaches.filter((breach) => breach.result === "repaired").length;
        if (answer.complete || !answer.next_place) break;
        place = answer.next_place;
        answer = null;
      }
      const found = verb === "Repairing" ? `${sum.repaired} of ${sum.breaches} breaches are repaired.` : `${sum.breaches} ${sum.breaches === 1 ? "breach" : "breaches"}.`;
      told.textContent = sum.breaches ? `Looked at ${counts()}: ${found}` : `All fits together: looked at ${counts()}.`;
      if (sum.breaches > MOST) told.textContent += ` The first ${MOST} are shown; the command has all.`;
      if (sum.can) repair?.removeAttribute("hidden");
    } catch (error) {
      told.textContent = `${verb} ended: ${error.message}.`;
    } finally {
      if (runs === run) runs = null;
      go.disabled = false;
      stop.hidden = true;
    }
  }

  go.addEventListener("click", () => walk("api/v1/doctor/check", "", "Checking"));
  stop.addEventListener("click", () => {
    runs = null;
    told.textContent = "Stopping.";
  });
  // The first part of a repair is the act of the button, which has asked before.
  document.body.addEventListener("asynq:acted", (event) => {
    if (!repair?.contains(event.detail.element)) return;
    walk("api/v1/doctor/fix", document.getElementById("ask-reason")?.value.trim() || "", "Repairing", event.detail.answer);
  });
})();
