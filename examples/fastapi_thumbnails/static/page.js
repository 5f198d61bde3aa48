// Sends the pictures, then follows each job's events until it has ended.
"use strict";

const form = document.querySelector("form");
const problem = document.querySelector("#problem");

form.addEventListener("submit", async (submission) => {
  submission.preventDefault();
  problem.textContent = "";
  try {
    const answer = await fetch(form.action, { method: "POST", body: new FormData(form) });
    const body = await answer.json();
    if (!answer.ok) throw new Error(typeof body.detail === "string" ? body.detail : answer.statusText);
    body.forEach(follow);
    form.reset();
  } catch (error) {
    problem.textContent = error.message;
  }
});

function follow(job) {
  const item = document.createElement("li");
  const state = document.createElement("p");
  item.append(job.name, state);
  document.querySelector("#jobs").prepend(item);

  const events = new EventSource(job.events);
  events.addEventListener("status", ({ data }) => { state.textContent = JSON.parse(data).status; });
  events.addEventListener("problem", () => { state.textContent = "connecting again"; });
  events.addEventListener("end", ({ data }) => {
    events.close();
    const { status, error } = JSON.parse(data);
    if (status === "success") {
      const picture = new Image();
      picture.src = job.thumbnail;
      picture.alt = job.name;
      state.replaceWith(picture);
    } else {
      state.textContent = error ?? status;
      state.className = "failed";
    }
  });
}
