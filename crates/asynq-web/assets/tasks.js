// The page of a queue, beside app.js: suggestions for the query, saved views, acts on many tasks.
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);
  const make = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
  const grouped = (number) => Number(number).toLocaleString("en-US");

  // Suggestions: the server knows them, htmx brings them, the arrows choose one.

  const input = $("query");
  const list = $("suggestions");

  if (input && list) {
    const items = () => [...list.children];
    const pointed = () => items().find((item) => item.getAttribute("aria-selected") === "true");

    const open = (is) => {
      list.hidden = !is || !list.children.length;
      input.setAttribute("aria-expanded", !list.hidden);
      if (list.hidden) point(null);
    };
    const point = (item) => {
      items().forEach((other) => other.setAttribute("aria-selected", other === item));
      if (item) {
        input.setAttribute("aria-activedescendant", item.id);
        item.scrollIntoView({ block: "nearest" });
      } else input.removeAttribute("aria-activedescendant");
    };
    const choose = (item) => {
      const caret = input.selectionStart;
      const start = caret - Number(item.dataset.cut);
      input.setRangeText(item.dataset.text, start, caret, "end");
      ask();
    };

    let timer = null;
    const ask = () => {
      clearTimeout(timer);
      timer = setTimeout(() => htmx.trigger(input, "suggest"), 120);
    };
    input.addEventListener("htmx:configRequest", (event) => {
      event.detail.parameters.delete("q");
      event.detail.parameters.set("before", input.value.slice(0, input.selectionStart));
    });
    list.addEventListener("htmx:afterSwap", () => open(document.activeElement === input));
    input.addEventListener("input", ask);
    input.addEventListener("click", ask);
    input.addEventListener("blur", () => open(false));
    input.addEventListener("keydown", (event) => {
      const all = items();
      const at = all.indexOf(pointed());
      if (event.key === "Escape" && !list.hidden) open(false);
      else if (event.key === "Enter" && at >= 0 && !list.hidden) choose(all[at]);
      else if (event.key === "ArrowDown" && list.hidden) ask();
      else if (event.key === "ArrowDown") point(all[at + 1] ?? all[0]);
      else if (event.key === "ArrowUp" && !list.hidden) point(at < 0 ? all.at(-1) : (all[at - 1] ?? null));
      else return;
      event.preventDefault();
    });
    // The input keeps the focus.
    list.addEventListener("mousedown", (event) => event.preventDefault());
    list.addEventListener("click", (event) => {
      const item = event.target.closest("[role=option]");
      if (item) choose(item);
    });
  }

  // Menus close at a click elsewhere, and at Escape.

  document.addEventListener("click", (event) => {
    document.querySelectorAll("[data-menu][open]").forEach((menu) => menu.contains(event.target) || (menu.open = false));
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    document.querySelectorAll("[data-menu][open]").forEach((menu) => {
      menu.open = false;
      menu.querySelector("summary").focus();
    });
  });

  // Saved views: names for the parameters of the page, in this browser.

  const VIEWS = "asynq_views";
  const views = $("views");

  function saved() {
    try {
      const known = JSON.parse(localStorage.getItem(VIEWS) || "[]");
      return Array.isArray(known) ? known.filter((view) => typeof view?.name === "string" && typeof view?.search === "string") : [];
    } catch {
      return [];
    }
  }

  function save(all) {
    try {
      localStorage.setItem(VIEWS, JSON.stringify(all));
    } catch {
      // The browser keeps nothing here: the view is gone with the page.
    }
    showViews();
  }

  function showViews() {
    const all = saved();
    $("views-none").hidden = all.length > 0;
    views.replaceChildren(
      ...all.map((view, index) => {
        const item = document.createElement("li");
        const link = make("a", view.name);
        link.href = "?" + view.search;
        const remove = make("button", "×");
        remove.type = "button";
        remove.className = "button quiet";
        remove.setAttribute("aria-label", `Delete the view ${view.name}`);
        remove.addEventListener("click", (event) => {
          event.stopPropagation();
          save(saved().filter((_, place) => place !== index));
        });
        item.append(link, remove);
        return item;
      }),
    );
  }

  if (views) {
    showViews();
    $("views-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const name = event.target.elements.name.value.trim();
      if (!name) return;
      const search = new URLSearchParams(location.search);
      ["cursor", "looked"].forEach((part) => search.delete(part));
      save([...saved().filter((view) => view.name !== name), { name, search: search.toString() }].slice(-50));
      event.target.reset();
    });
  }

  // Acts on many tasks.

  const bar = $("bulk");
  const dialog = $("bulk-dialog");
  let all = false; // Those on other pages too.
  const boxes = () => [...document.querySelectorAll("[data-select]")];
  const checked = () => boxes().filter((box) => box.checked);

  function showBar() {
    const [some, every] = [checked(), boxes()];
    if (some.length < every.length) all = false;
    bar.hidden = !some.length;
    $("bulk-count").textContent = all ? "All tasks that match" : grouped(some.length);
    $("bulk-words").textContent = all ? "are selected" : some.length === 1 ? "task is selected" : "tasks are selected";
    $("bulk-all").hidden = all || some.length < every.length;
    const page = document.querySelector("[data-select-page]");
    if (page) {
      page.checked = every.length > 0 && some.length === every.length;
      page.indeterminate = some.length > 0 && some.length < every.length;
    }
  }

  const WORDS = {
    run: ["Run", "They become pending, and a server takes them in turn. Tasks in states that cannot be run are left alone."],
    archive: ["Archive", "They are kept and no longer run. Tasks in states that cannot be archived are left alone."],
    delete: ["Delete", "They are gone with their payloads and results. This cannot be taken back. Active tasks are left alone."],
  };

  function ready() {
    const typed = $("bulk-typed-field").hidden || $("bulk-typed").value === bar.dataset.queue;
    $("bulk-go").disabled = !(dialog.count > 0 && typed);
  }

  function example(id, type) {
    const item = document.createElement("li");
    item.append(make("code", id), make("span", type));
    return item;
  }

  // Shows how many tasks there are, and some of them.
  function preview(count, words, tasks) {
    dialog.count = count;
    const number = make("p", words);
    number.className = "preview-count";
    const list = document.createElement("ul");
    list.append(...tasks.slice(0, 3).map((task) => example(task.id, task.type)));
    $("bulk-preview").replaceChildren(number, list);
    if (tasks.length && count > 3) list.append(example("…", ""));
    ready();
  }

  async function post(path, body) {
    const csrf = document.querySelector("meta[name=csrf-token]")?.content || "";
    const headers = { "Content-Type": "application/json", "X-CSRF-Token": csrf };
    const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
    const value = await answer.json();
    if (!answer.ok) throw new Error(value.detail || value.title);
    return value;
  }

  async function open(act) {
    const form = dialog.querySelector("form");
    form.reset();
    form.querySelector("[data-problem]").hidden = true;
    const [label, effect] = WORDS[act];
    const query = bar.dataset.query;
    const tasks = checked().map((box) => ({ id: box.value, type: box.dataset.type }));
    $("bulk-title").textContent = `${label} ${all ? "all tasks that match" : tasks.length === 1 ? "one task" : grouped(tasks.length) + " tasks"}?`;
    $("bulk-effect").textContent = effect;
    $("bulk-typed-field").hidden = act !== "delete";
    const go = $("bulk-go");
    go.textContent = label;
    go.classList.toggle("bad", act === "delete");
    const { act: acts, query: queries, tasks: listed, confirm } = form.elements;
    [acts.value, queries.value, listed.value, confirm.value] = [act, "", "", ""];
    dialog.count = 0;
    ready();
    dialog.showModal();
    const seen = (count) => (form.dataset.go = `${form.dataset.acts}/{id}?of=${count}`);
    if (!all) {
      listed.value = JSON.stringify(tasks.map((task) => ({ queue: bar.dataset.queue, id: task.id })));
      seen(tasks.length);
      preview(tasks.length, tasks.length === 1 ? "1 task" : `${grouped(tasks.length)} tasks`, tasks);
      return;
    }
    queries.value = query;
    $("bulk-preview").replaceChildren(make("p", "Counting the tasks…"));
    try {
      const [count, found] = await Promise.all([
        post(dialog.dataset.preview, { query, act }),
        post(dialog.dataset.search, { query, limit: 3 }).catch(() => ({ tasks: [] })),
      ]);
      if (queries.value !== query || acts.value !== act) return;
      if (act === "delete") confirm.value = count.tasks;
      seen(count.tasks);
      const words = `${count.complete ? "" : "At least "}${grouped(count.tasks)} ${count.tasks === 1 ? "task" : "tasks"}`;
      preview(count.tasks, words, count.tasks ? found.tasks : []);
      if (!count.complete) {
        const limit = act === "delete" ? "It deletes so many and no more." : "The count was not finished. The act goes on to the end.";
        $("bulk-preview").append(make("p", limit));
      }
    } catch (error) {
      $("bulk-preview").replaceChildren(make("p", `The tasks cannot be counted: ${error.message}.`));
    }
  }

  if (bar && dialog) {
    document.addEventListener("change", (event) => {
      if (event.target.matches?.("[data-select-page]")) boxes().forEach((box) => (box.checked = event.target.checked));
      if (event.target.matches?.("[data-select], [data-select-page]")) showBar();
    });
    document.addEventListener("htmx:afterSettle", showBar);
    $("bulk-all").addEventListener("click", () => {
      all = true;
      showBar();
    });
    $("bulk-clear").addEventListener("click", () => {
      boxes().forEach((box) => (box.checked = false));
      showBar();
    });
    bar.addEventListener("click", (event) => {
      const button = event.target.closest("[data-bulk]");
      if (button && checked().length) open(button.dataset.bulk);
    });
    $("bulk-typed").addEventListener("input", () => ready());
    // A page that the browser has kept has its boxes checked.
    showBar();
    addEventListener("pageshow", showBar);
  }

  // A new task: JSON is checked here, and sent as it is written.

  const enqueue = document.querySelector("[data-enqueue]");
  if (enqueue) {
    const payload = $("enqueue-payload");
    const kind = enqueue.querySelector("[data-payload-kind]");
    const check = () => {
      payload.setCustomValidity("");
      if (kind.value !== "json") return;
      try {
        JSON.parse(payload.value);
      } catch (error) {
        payload.setCustomValidity(`This is no JSON: ${error.message}`);
      }
    };
    payload.addEventListener("input", check);
    kind.addEventListener("change", check);
  }
})();
