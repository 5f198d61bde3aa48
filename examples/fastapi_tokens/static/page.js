// Sends the prompt, and shows the answer while it is made. Cancel ends the request, as closing the
// tab does: the server notices, and has the task stopped.
"use strict";

const form = document.querySelector("form");
const ask = document.querySelector("#ask");
const cancel = document.querySelector("#cancel");
const answer = document.querySelector("#answer");
const state = document.querySelector("#state");

form.addEventListener("submit", async (submission) => {
  submission.preventDefault();
  const controller = new AbortController();
  const stop = () => controller.abort();
  cancel.addEventListener("click", stop);
  ask.disabled = true;
  cancel.disabled = false;
  answer.textContent = "";
  state.textContent = "asking";
  try {
    const body = new FormData(form);
    const response = await fetch(form.action, { method: "POST", body, signal: controller.signal });
    if (!response.ok) throw new Error(await response.text());
    state.dataset.task = response.headers.get("X-Task-Id");
    state.textContent = "answering";
    state.textContent = await show(response.body);
  } catch (error) {
    state.textContent = error.name === "AbortError" ? "cancelled" : error.message;
  } finally {
    cancel.removeEventListener("click", stop);
    ask.disabled = false;
    cancel.disabled = true;
  }
});

// Shows token after token; returns how it ended.
async function show(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return "the connection was lost";
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const { token, end } = JSON.parse(line);
      if (end !== undefined) return end;
      answer.append(token);
    }
  }
}
