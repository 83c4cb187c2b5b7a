// The behaviour of the pages, beside htmx. Pages can be read without it.
"use strict";

(() => {
  const body = document.body;
  const $ = (id) => document.getElementById(id);
  const base = body.dataset.base || "./";
  const isMac = /Mac|iP/.test(navigator.platform);

  // Toasts

  function toast(text, kind) {
    const box = document.createElement("div");
    box.className = "toast " + (kind || "");
    box.textContent = text;
    $("toasts")?.append(box);
    setTimeout(() => box.remove(), 6000);
  }

  // Acts: requests to the API, as JSON, with the token of the session and the reason.

  const isAct = (element) => element.getAttribute("hx-ext") === "api";
  let asked = null; // The act that the dialog is about.

  // The fields of a form as JSON. A name with dots is a field of a field; `data-type` says what a text stands for.
  function fieldsOf(form) {
    const fields = {};
    for (const input of form.elements) {
      if (!input.name || input.disabled || ((input.type === "checkbox" || input.type === "radio") && !input.checked)) continue;
      let value = input.value;
      if (value === "" && "skipEmpty" in input.dataset) continue;
      switch (input.dataset.type) {
        case "number": value = Number(value); break;
        case "bool": value = value === "true" || value === "on"; break;
        case "time": value = new Date(value).toISOString(); break;
        case "json": value = JSON.parse(value); break;
        case "list": value = value.split(/[\s,]+/).filter(Boolean); break;
      }
      const path = input.name.split(".");
      const last = path.pop();
      const target = path.reduce((object, name) => (object[name] ??= {}), fields);
      if ("repeat" in input.dataset) (target[last] ??= []).push(value);
      else target[last] = value;
    }
    return fields;
  }

  htmx.defineExtension("api", {
    onEvent(name, event) {
      if (name !== "htmx:configRequest") return true;
      const { detail } = event;
      detail.headers["X-CSRF-Token"] = document.querySelector("meta[name=csrf-token]")?.content || "";
      if (detail.verb === "delete" && asked?.reason) detail.parameters.append("reason", asked.reason);
      if (detail.verb !== "delete" && detail.verb !== "get") detail.headers["Content-Type"] = "application/json";
      return true;
    },
    encodeParameters(xhr, parameters, element) {
      const fields = element.tagName === "FORM" ? fieldsOf(element) : JSON.parse(element.getAttribute("hx-vals") || "{}");
      if (asked?.element === element && asked.reason) fields.reason = asked.reason;
      return JSON.stringify(fields);
    },
  });

  // An act that is on its way is not sent again, however often its button is pressed.
  const sent = new WeakSet();
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (isAct(event.detail.elt)) sent.add(event.detail.elt);
  });
  document.addEventListener("htmx:afterRequest", (event) => sent.delete(event.detail.elt));

  const ask = $("ask");
  document.addEventListener("htmx:confirm", (event) => {
    const element = event.detail.elt;
    if (sent.has(element)) return event.preventDefault();
    if (!isAct(element) || !("ask" in element.dataset) || !ask) return;
    event.preventDefault();
    const { ask: question, effect, typed, command } = element.dataset;
    const isForm = element.tagName === "FORM";
    asked = { element, issue: event.detail.issueRequest, reason: "" };
    $("ask-title").textContent = question;
    $("ask-effect").textContent = effect || "";
    $("ask-problem").hidden = true;
    $("ask-typed-field").hidden = !typed;
    $("ask-typed").value = "";
    $("ask-typed-name").textContent = typed || "";
    $("ask-reason").value = isForm ? (element.elements.reason?.value ?? "") : "";
    $("ask-reason").required = "reason" in body.dataset;
    $("ask-reason-hint").hidden = "reason" in body.dataset;
    const shell = ask.querySelector(".dialog-command");
    shell.hidden = !command;
    shell.querySelector("code").textContent = command || "";
    const go = $("ask-go");
    const labelled = isForm ? element.querySelector("button:not([type=button])") : element;
    go.textContent = labelled?.dataset.label || labelled?.textContent.trim() || "Do it";
    go.classList.toggle("bad", element.classList.contains("bad"));
    allow();
    ask.showModal();
    (typed ? $("ask-typed") : $("ask-reason").required ? $("ask-reason") : go).focus();
  });

  function allow() {
    const typed = $("ask-typed-name").textContent;
    $("ask-go").disabled = (typed !== "" && $("ask-typed").value !== typed) || ($("ask-reason").required && !$("ask-reason").value.trim());
  }
  ask?.addEventListener("input", allow);
  ask?.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    if ($("ask-go").disabled || !asked) return;
    asked.reason = $("ask-reason").value.trim();
    $("ask-go").disabled = true;
    // A part that has changed may have taken the button away.
    if (!asked.element.isConnected) {
      ask.close();
      return toast("This is over already.");
    }
    asked.issue(true);
  });
  ask?.addEventListener("close", () => (asked = null));

  // The text of a refusal: the problem's, or what else came.
  function problemOf(xhr) {
    if (xhr.status === 401) return "Your session has ended. Sign in in another tab, then try again here.";
    try {
      const problem = JSON.parse(xhr.responseText);
      if (problem.code === "csrf") return "There is a new session. Try again.";
      return (problem.detail || problem.title || "The request failed") + ".";
    } catch {
      return xhr.status ? `The server answered ${xhr.status}.` : "The server does not answer.";
    }
  }

  // The token of the session may be that of a new one, after a sign-in in another tab.
  async function renewToken() {
    const answer = await fetch(base + "api/v1/session").catch(() => null);
    const token = answer?.ok ? (await answer.json()).csrf_token : null;
    const meta = document.querySelector("meta[name=csrf-token]");
    if (token && meta) meta.content = token;
  }

  document.addEventListener("htmx:afterRequest", (event) => {
    const { elt: element, xhr, successful } = event.detail;
    if (isAct(element) && (xhr.status === 401 || xhr.status === 403)) renewToken();
    if (xhr.status === 401 && !isAct(element)) return location.reload();
    if (!isAct(element)) return;
    if (!successful) {
      const own = element.querySelector?.("[data-problem]");
      const box = ask?.open ? $("ask-problem") : own;
      if (box) {
        box.textContent = problemOf(xhr);
        box.hidden = false;
      } else toast(problemOf(xhr), "bad");
      if (ask?.open) allow();
      return;
    }
    if (ask?.open) ask.close();
    element.closest("dialog")?.close();
    let answer = {};
    try {
      answer = JSON.parse(xhr.responseText);
    } catch {
      // An answer without a body.
    }
    if (element.dataset.go) {
      location.href = element.dataset.go.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(answer[name] ?? ""));
      return;
    }
    toast(element.dataset.done || "Done.");
    body.dispatchEvent(new CustomEvent("asynq:acted", { detail: { element, answer } }));
    refresh();
  });

  // Live parts. Changes come from the server's events; a part is asked for again at most every few seconds.

  const gap = Number(body.dataset.refresh || 0) * 1000;
  const waiting = new Set();
  let timer = null;

  // All parts, as something was done here.
  function refresh() {
    body.dispatchEvent(new CustomEvent("asynq:refresh"));
  }

  // The parts that show what has changed, each once.
  function changed(names) {
    for (const part of document.querySelectorAll("[data-live]")) {
      if (part.dataset.live.split(" ").some((name) => names.has(name))) htmx.trigger(part, "asynq:changed");
    }
  }

  function later(name) {
    waiting.add(name);
    timer ??= setTimeout(() => {
      timer = null;
      const names = new Set(waiting);
      waiting.clear();
      changed(names);
    }, gap);
  }

  // Nothing moves under the hands of somebody who is choosing.
  const isBusy = () => document.querySelector("dialog[open]") || !getSelection().isCollapsed || document.querySelector("[data-select]:checked");
  const missed = new Set();
  document.addEventListener("htmx:beforeRequest", (event) => {
    const element = event.detail.elt;
    if (!("live" in element.dataset)) return;
    const isBehind = event.detail.requestConfig?.triggeringEvent?.type === "asynq:changed" && isBusy();
    if (isBehind) missed.add(element.id);
    if (isBehind || document.hidden) event.preventDefault();
  });
  function catchUp() {
    if (!missed.size || isBusy()) return;
    const ids = [...missed];
    missed.clear();
    ids.forEach((id) => $(id) && htmx.trigger($(id), "asynq:changed"));
  }
  document.addEventListener("close", catchUp, true);
  document.addEventListener("change", catchUp);
  document.addEventListener("selectionchange", catchUp);

  // What a page asks for by itself does not count as a use of the session.
  document.addEventListener("htmx:configRequest", (event) => {
    if ("live" in event.detail.elt.dataset) event.detail.headers["Asynq-Live"] = "1";
  });

  // An answer that has no such part, as that of another page, takes nothing away.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { elt: element, serverResponse: answer } = event.detail;
    if ("live" in element.dataset && !answer.includes(`id="${element.id}"`)) event.detail.shouldSwap = false;
  });

  const SILENT = "The web server does not answer. What you see is old; it is asked again.";

  function outage(text) {
    const banner = $("outage");
    if (!banner) return;
    banner.hidden = !text;
    banner.textContent = text || "";
  }

  document.addEventListener("htmx:responseError", (event) => {
    if (!("live" in event.detail.elt.dataset)) return;
    // What it shows is gone: the page of an error says so, if the page itself does not.
    if (event.detail.xhr.status === 404 && !$("task-gone")) location.reload();
    if (event.detail.xhr.status > 503 || event.detail.xhr.status === 502) outage(SILENT);
    if (event.detail.xhr.status === 503) outage("The storage does not answer. What you see is old; it is looked at again.");
  });
  document.addEventListener("htmx:sendError", (event) => {
    if ("live" in event.detail.elt.dataset) outage(SILENT);
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    if ("live" in event.detail.elt.dataset) outage("");
  });

  const names = ["queues", "gone", "servers", "trees", "findings"];
  let stream = null;
  let lost = null;

  function listen() {
    if (stream || again || !gap || document.hidden || !document.querySelector("[data-live]")) return;
    stream = new EventSource(base + "api/v1/events");
    // The first events tell what is known, as the page does.
    let from = Date.now() + 500;
    names.forEach((name) => stream.addEventListener(name, () => Date.now() > from && later(name)));
    stream.addEventListener("storage", (event) => {
      const answers = JSON.parse(event.data).answers;
      outage(answers ? "" : "The storage does not answer. What you see is old; it is looked at again.");
      if (answers) refresh();
    });
    stream.onopen = () => {
      clearTimeout(lost);
      if (lost) {
        outage("");
        refresh();
        from = Date.now() + 500;
      }
      lost = null;
    };
    stream.onerror = () => {
      if (stream.readyState === EventSource.CLOSED) {
        stream = null;
        return refused();
      }
      lost ??= setTimeout(() => outage(SILENT), 4000);
    };
  }

  // The server has refused the stream: the session has ended, or too many pages listen. Then this one asks now and then.
  let again = null;
  async function refused() {
    const answer = await fetch(base + "api/v1/session", { headers: { "Asynq-Live": "1" } }).catch(() => null);
    if (answer?.status === 401) return location.reload();
    if (!answer?.ok) outage(SILENT);
    again ??= setTimeout(() => {
      again = null;
      changed(new Set(names));
      listen();
    }, answer?.ok ? Math.max(gap, 15000) : 5000);
  }

  // A hidden page holds no connection: browsers have few for one server.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      stream?.close();
      stream = null;
    } else {
      listen();
      if (gap) changed(new Set(names));
    }
  });
  addEventListener("pagehide", () => stream?.close());

  // A page of an outage looks again until the storage answers.
  const retry = document.querySelector("[data-retry]");
  if (retry) {
    setInterval(async () => {
      const answer = await fetch(location.href, { headers: { "Asynq-Live": "1" } }).catch(() => null);
      if (answer?.ok) location.reload();
    }, Number(retry.dataset.retry) * 1000);
  }

  // A part that changes keeps what its reader has opened, chosen and typed.
  if (window.Idiomorph) {
    Idiomorph.defaults.ignoreActiveValue = true;
    Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node) =>
      !(name === "class" && node.classList.contains("at")) && !(name === "open" && (node.tagName === "DETAILS" || node.tagName === "DIALOG"));
    Idiomorph.defaults.callbacks.beforeNodeMorphed = (old) => !(old.nodeType === 1 && ("keep" in old.dataset || "select" in old.dataset));
  }

  // Copying

  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy], [data-copy-of]");
    if (!button) return;
    const parts = button.dataset.copyOf ? [...document.querySelectorAll(`#${button.dataset.copyOf} pre`)] : [];
    const text = button.dataset.copy ?? parts.map((part) => part.textContent).join("");
    try {
      await navigator.clipboard.writeText(text);
      button.classList.add("copied");
      setTimeout(() => button.classList.remove("copied"), 1200);
    } catch {
      toast("The browser does not allow copying here.", "bad");
    }
  });

  // Dialogs

  let pressed = null;
  document.addEventListener("pointerdown", (event) => (pressed = event.target));
  document.addEventListener("click", (event) => {
    const opener = event.target.closest?.("[data-open]");
    if (opener) $(opener.dataset.open)?.showModal();
    if (event.target.closest?.("[data-close]")) event.target.closest("dialog")?.close();
    if (event.target.tagName === "DIALOG" && pressed === event.target) {
      const { left, right, top, bottom } = event.target.getBoundingClientRect();
      const isInside = event.clientX >= left && event.clientX <= right && event.clientY >= top && event.clientY <= bottom;
      if (!isInside) event.target.close();
    }
    for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  });

  // The command palette

  const palette = $("palette");
  const input = $("palette-input");
  const list = $("palette-list");
  let entries = [];
  let queues = null;

  function link(label, hint, href) {
    return { label, hint, run: () => (location.href = href) };
  }

  function fixedEntries() {
    const pages = [...document.querySelectorAll(".side a")].map((a) => link(a.textContent.trim(), "page", a.href));
    const acts = [...document.querySelectorAll(".page-acts [hx-ext=api], .page-acts [data-open]")].map((button) => ({
      label: button.textContent.trim() || button.title,
      hint: "act",
      run: () => button.click(),
    }));
    return [...acts, ...pages, { label: "Keyboard shortcuts", hint: "help", run: () => $("shortcuts").showModal() }];
  }

  async function openPalette(text) {
    if (!palette || document.querySelector("dialog[open]")) return;
    palette.showModal();
    input.value = text || "";
    offer();
    if (queues === null) {
      const answer = await fetch(base + "api/v1/queues?limit=1000").catch(() => null);
      const found = answer?.ok ? (await answer.json()).queues : [];
      queues = found.map((queue) => link(queue.queue, "queue", base + "queues/" + encodeURIComponent(queue.queue)));
      offer();
    }
  }

  function offer() {
    const text = input.value.trim().toLowerCase();
    const all = [...fixedEntries(), ...(queues || [])];
    entries = all.filter((entry) => entry.label.toLowerCase().includes(text)).slice(0, 30);
    if (text) entries.push(link(`Find “${input.value.trim()}” as a task or a queue`, "find", base + "find?q=" + encodeURIComponent(input.value.trim())));
    list.replaceChildren(
      ...entries.map((entry, index) => {
        const item = document.createElement("li");
        item.role = "option";
        item.id = "palette-" + index;
        const label = document.createElement("span");
        label.textContent = entry.label;
        const hint = document.createElement("span");
        hint.className = "hint";
        hint.textContent = entry.hint;
        item.append(label, hint);
        item.addEventListener("click", () => choose(index));
        return item;
      }),
    );
    point(0);
  }

  function point(index) {
    const items = [...list.children];
    const at = items.length ? (index + items.length) % items.length : -1;
    items.forEach((item, place) => item.setAttribute("aria-selected", place === at));
    if (at >= 0) {
      input.setAttribute("aria-activedescendant", items[at].id);
      items[at].scrollIntoView({ block: "nearest" });
    } else input.removeAttribute("aria-activedescendant");
  }

  const pointed = () => [...list.children].findIndex((item) => item.getAttribute("aria-selected") === "true");

  function choose(index) {
    const entry = entries[index];
    palette.close();
    entry?.run();
  }

  input?.addEventListener("input", offer);
  input?.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") point(pointed() + 1);
    else if (event.key === "ArrowUp") point(pointed() - 1);
    else if (event.key === "Enter") choose(pointed());
    else return;
    event.preventDefault();
  });
  const searchKey = document.querySelector(".search-keys kbd");
  if (searchKey && !isMac) searchKey.textContent = "Ctrl K";

  // The keyboard

  const rows = () => [...document.querySelectorAll("[data-rows] tbody tr:not(.group)")].filter((row) => row.querySelector("[data-open-row]"));

  function move(step) {
    const all = rows();
    if (!all.length) return;
    const at = all.findIndex((row) => row.classList.contains("at"));
    const next = at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + step, 0), all.length - 1);
    all.forEach((row, place) => row.classList.toggle("at", place === next));
    all[next].scrollIntoView({ block: "nearest" });
    all[next].querySelector("[data-open-row]").focus({ preventScroll: true });
  }

  let prefix = 0;
  document.addEventListener("keydown", (event) => {
    if ((event.metaKey || event.ctrlKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      openPalette();
      return;
    }
    const typing = event.target.matches?.("input, textarea, select, [contenteditable]");
    if (typing || event.metaKey || event.ctrlKey || event.altKey || document.querySelector("dialog[open]")) return;
    const at = document.querySelector("[data-rows] tr.at");
    if (Date.now() - prefix < 1500) {
      prefix = 0;
      const target = [...document.querySelectorAll(".side a")].find((a) => a.dataset.key === event.key);
      if (target) {
        event.preventDefault();
        target.click();
      }
      return;
    }
    switch (event.key) {
      case "g": prefix = Date.now(); break;
      case "?": $("shortcuts")?.showModal(); break;
      case "/": (document.querySelector("main [data-filter]") || document.querySelector(".search input"))?.focus(); break;
      case "j": move(1); break;
      case "k": move(-1); break;
      case "x": at?.querySelector("[data-select]")?.click(); break;
      case "Escape": document.querySelectorAll("[data-select]:checked").forEach((box) => box.click()); return;
      default: return;
    }
    event.preventDefault();
  });

  // In a narrow window the menus begin at the place where one is.
  for (const current of document.querySelectorAll(".side [aria-current], .tabs [aria-current]")) {
    const menu = current.closest(".side, .tabs");
    const [place, view] = [current.getBoundingClientRect(), menu.getBoundingClientRect()];
    menu.scrollLeft += place.left - view.left - (view.width - place.width) / 2;
  }

  // Settings

  const settings = document.querySelector("form[data-settings]");
  function save() {
    const text = new URLSearchParams(new FormData(settings)).toString();
    document.cookie = `${settings.dataset.settings}=${encodeURIComponent(text)}; path=/; max-age=31536000; samesite=lax`;
    location.reload();
  }
  settings?.addEventListener("change", save);
  settings?.addEventListener("submit", (event) => event.preventDefault());
  const zoneHere = document.querySelector("[data-zone-here]");
  if (zoneHere) {
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    zoneHere.textContent = zone;
    zoneHere.addEventListener("click", () => {
      settings.elements.zone.value = zone;
      save();
    });
  }

  listen();
})();
