// Who may read. A login is the server's or its proxy's business, and its cookie comes along by itself. A token is asked for
// where the server takes one.

import { setText } from "./dom.js";
import { count, list } from "./words.js";

// The names of `accepts`, as they are said.
const WAYS = {
  bearer: "by a token that you enter here",
  cookie: "by the cookie of a login",
  proxy: "by a proxy in front of it that logs you in",
  certificate: "by a certificate in your browser",
};

function known(accepts) {
  const ways = accepts.filter((way) => Object.hasOwn(WAYS, way)).map((way) => WAYS[way]);
  return `The server shows them to those whom it knows${ways.length ? `: ${list(ways)}` : ""}.`;
}

const byId = (id) => document.getElementById(id);

export class Access {
  #hasToken = false;

  constructor({ useToken, recheck }) {
    byId("token-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const token = byId("token").value;
      byId("token-form").reset();
      this.#hasToken = true;
      useToken(token);
    });
    byId("again").addEventListener("click", recheck); // leads through the login of a proxy, too
  }

  // Of a stream: asks where it is refused, and warns before it will be.
  show({ state, status, message, accepts, endsAt }, loginUrl) {
    if (state === "unauthorised") {
      const titles = { 401: this.#hasToken ? "This token is not accepted" : "Please log in", 403: "You may not read this" };
      this.#ask(titles[status] ?? "Please log in", message, accepts.includes("bearer"), loginUrl);
    } else if (endsAt !== null && endsAt > Date.now()) {
      const seconds = Math.ceil((endsAt - Date.now()) / 1000);
      this.#ask("Your access ends soon", `It ends in ${count(seconds, "second")}.`, this.#hasToken, loginUrl);
    } else {
      this.hide();
    }
  }

  // Of the list of streams: there may be more for somebody whom the server knows.
  hear({ hidden, entries, accepts, error }, isHome, loginUrl) {
    if (!isHome) return;
    const takesToken = accepts.includes("bearer");
    if (error?.code === "keys_unavailable") this.#ask("Logins cannot be checked now", error.message, takesToken, loginUrl);
    else if (error) this.#ask(this.#hasToken ? "This token is not accepted" : "Please log in", error.message, takesToken, loginUrl);
    else if (hidden && !entries.length && this.#hasToken) this.#ask("You may not read this", "No stream is for the client whose token this is.", takesToken, loginUrl);
    else if (hidden && !this.#hasToken) this.#ask(entries.length ? "There are more streams" : "Please log in", known(accepts), takesToken, loginUrl);
    else this.hide();
  }

  hide() {
    byId("access").hidden = true;
  }

  #ask(title, why, takesToken, loginUrl) {
    setText(byId("access-title"), title);
    setText(byId("access-why"), why ?? "");
    byId("token-form").hidden = !takesToken;
    byId("login").hidden = loginUrl === "";
    byId("access").hidden = false;
  }
}
