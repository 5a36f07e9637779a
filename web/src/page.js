// What the page shows: one store, and the small things that change it.
import {loadKey, loadSettings, saveSettings} from "./settings.js";
import {createStore} from "./store.js";

const kToastMs = 8000;

/**
 * `runs` are the answers being written, by conversation: their text is not in the conversation until they end, so that
 * a token costs one message and not the list.
 */
export const store = createStore({
    ready: false,
    lasting: true,
    conversations: [],
    current: null,
    runs: {},
    server: {state: "loading", model: null, props: null},
    settings: loadSettings(),
    key: loadKey(),
    dialog: null,
    drawer: false,
    toast: null,
    announcement: "",
});

const {get, set} = store;
let toastTimer;

export const findConversation = id => get().conversations.find(conversation => conversation.id === id);
export const currentOf = state => state.conversations.find(conversation => conversation.id === state.current);
export const contextSize = state =>
    state.server.props?.default_generation_settings?.n_ctx ?? state.server.model?.meta?.n_ctx;
/** Without a chat template the model only goes on with a text. */
export const isPlain = state => state.server.props?.has_chat === false;

export function setSettings(patch) {
    set(state => ({settings: {...state.settings, ...patch}}));
    saveSettings(get().settings);
}

export const showDialog = (name, more) => set({dialog: {name, ...more}});
export const closeDialog = () => set({dialog: null});
export const setDrawer = drawer => set({drawer});
export const focusComposer = () => document.getElementById("composer")?.focus();

/** Says something for a while; `undo` takes back what it is about. */
export function toast(text, undo) {
    clearTimeout(toastTimer);
    set({toast: {text, undo}});
    toastTimer = setTimeout(closeToast, kToastMs);
}

export const closeToast = () => set({toast: null});

/** Light or dark, as set here or in the system. */
export function applyTheme() {
    const {theme} = get().settings;
    const dark = theme === "auto" ? matchMedia("(prefers-color-scheme: dark)").matches : theme === "dark";
    document.documentElement.dataset.theme = dark ? "dark" : "light";
}

export function followTheme() {
    applyTheme();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", applyTheme);
}
