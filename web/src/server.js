// The server that the page came from: what it serves, whether it answers, and the key that it asks for.
import {getModel, getProps} from "./api.js";
import {store} from "./page.js";
import {keepKey} from "./settings.js";

const kPollMs = 5000;
const {get, set} = store;
let poll;

/** Asks what is served, again and again while nobody answers. Returns the state that the server is in. */
export async function connect() {
    clearTimeout(poll);
    let server = get().server;
    try {
        server = {...server, model: await getModel()};
        server = {...server, props: await getProps(get().key), state: "ok"};
    } catch (error) {
        server = {...server, state: {401: "key", 403: "forbidden"}[error.status] ?? "down"};
        if (server.state === "key" && get().server.state !== "key") set({dialog: {name: "key"}});
        if (server.state === "down") poll = setTimeout(connect, kPollMs);
    }
    set({server});
    return server.state;
}

/** Takes a key; true when the server does, too. */
export async function offerKey(key, keep) {
    set({key});
    if ((await connect()) === "key") return false;
    keepKey(key, keep);
    return true;
}

/** It may have been started again with another model while nobody looked. */
export function watchServer() {
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && connect());
    return connect();
}
