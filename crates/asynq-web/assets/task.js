// The editor of a payload in the dialogs of a task: it says where JSON is wrong, and sends exactly the bytes that are meant.
"use strict";

(() => {
  // A task that succeeds and is not kept leaves its page behind.
  document.addEventListener("htmx:responseError", (event) => {
    const gone = document.getElementById("task-gone");
    if (!gone || event.detail.elt.id !== "task" || event.detail.xhr.status !== 404) return;
    gone.hidden = false;
    event.detail.elt.classList.add("gone");
    event.detail.elt.querySelectorAll("button[hx-ext], button[data-open]").forEach((button) => (button.disabled = true));
  });

  const source = document.getElementById("payload-source");
  const TOKEN = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null|"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;

  // The place of the first error in JSON, -1 if there is none.
  function faultAt(text) {
    let at = 0;
    const blanks = () => {
      while (" \t\n\r".includes(text[at] || "x")) at++;
    };
    const fail = () => {
      throw { at };
    };
    const token = (isName) => {
      TOKEN.lastIndex = at;
      if (isName && text[at] !== '"') fail();
      if (!TOKEN.test(text)) fail();
      at = TOKEN.lastIndex;
    };
    const list = (end, item) => {
      at++;
      blanks();
      if (text[at] === end) return at++;
      for (;;) {
        item();
        blanks();
        if (text[at] === end) return at++;
        if (text[at] !== ",") fail();
        at++;
      }
    };
    const value = () => {
      blanks();
      if (text[at] === "[") list("]", value);
      else if (text[at] === "{")
        list("}", () => {
          blanks();
          token(true);
          blanks();
          if (text[at] !== ":") fail();
          at++;
          value();
        });
      else token(false);
    };
    try {
      value();
      blanks();
      return at < text.length ? at : -1;
    } catch (error) {
      return error.at ?? -1; // Nested too deeply to be looked at here: the server decides.
    }
  }

  const placeOf = (text, at) => {
    const before = text.slice(0, at).split("\n");
    return { line: before.length, column: before.at(-1).length + 1 };
  };

  // JSON without the blanks between its parts. Numbers keep all their digits.
  const compact = (text) => text.replace(/"(?:[^"\\]|\\.)*"|\s+/g, (part) => (part[0] === '"' ? part : ""));

  function problemOf(kind, text) {
    if (kind === "json") {
      const at = faultAt(text);
      if (at < 0) return "";
      const { line, column } = placeOf(text, at);
      return at >= text.trimEnd().length ? `The JSON ends too early, in line ${line}.` : `This is no JSON: line ${line}, column ${column}.`;
    }
    if (kind === "base64" && !/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(text.replace(/\s/g, ""))) return "This is no Base64.";
    return "";
  }

  for (const editor of document.querySelectorAll("[data-editor]")) {
    const find = (name) => editor.querySelector(`[data-editor-${name}]`);
    const text = find("text");
    const kind = find("kind");
    const opener = find("open");
    const form = editor.closest("form");
    const { "payload.encoding": encoding, "payload.value": value } = form.elements;
    text.value = source.value;
    kind.value = source.dataset.kind;

    function check() {
      const problem = text.disabled ? "" : problemOf(kind.value, text.value);
      text.setCustomValidity(problem);
      find("problem").textContent = problem;
      find("problem").hidden = !problem;
      encoding.value = kind.value === "base64" ? "base64" : "text";
      const isUntouchedForm = kind.value === "json" && "compact" in source.dataset;
      value.value = kind.value === "base64" ? text.value.replace(/\s/g, "") : isUntouchedForm && !problem ? compact(text.value) : text.value;
    }

    function place() {
      const { line, column } = placeOf(text.value, text.selectionStart);
      find("place").textContent = `line ${line}, column ${column}`;
    }

    opener?.addEventListener("change", () => {
      find("body").hidden = !opener.checked;
      for (const part of [text, kind, encoding, value]) part.disabled = !opener.checked;
      check();
      if (opener.checked) text.focus();
    });
    text.addEventListener("input", check);
    kind.addEventListener("change", check);
    for (const event of ["input", "click", "keyup", "focus"]) text.addEventListener(event, place);
    check();
  }
})();
