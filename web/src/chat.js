// What the page does: asks the server, writes answers into conversations, and keeps them.
import {ApiError, complete, countTokens, getModel, getProps} from "./api.js";
import * as kept from "./conversations.js";
import {keepKey, loadKey, loadSettings, requestFields, saveSettings, schemaError} from "./settings.js";
import {createStore} from "./store.js";

const kDrawMs = 100, kSaveMs = 500, kPollMs = 5000, kMaxRetries = 5, kToastMs = 8000;

/**
 * `runs` are the answers being written, by conversation: their text is not in the conversation until they end, so that a
 * token costs one message and not the list.
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
let database, channel, poll, toastTimer;
const controllers = {};

export const currentOf = state => state.conversations.find(conversation => conversation.id === state.current);
export const contextSize = state => state.server.props?.default_generation_settings?.n_ctx ?? state.server.model?.meta?.n_ctx;
/** Without a chat template the model only goes on with a text. */
export const isPlain = state => state.server.props?.has_chat === false;

// Conversations.

const byTime = conversations => [...conversations].sort((a, b) => b.updated - a.updated);

function tellOthers(id) {
    channel?.postMessage(id);
}

/** Puts a conversation in the place of the one with its id, and keeps it. */
function put(conversation, {touch = true} = {}) {
    const next = touch ? {...conversation, updated: Date.now()} : conversation;
    set(state => ({conversations: byTime([next, ...state.conversations.filter(other => other.id !== next.id)])}));
    database.put(next).then(() => tellOthers(next.id), () => toast("This browser has no room left: the conversation is not kept."));
    return next;
}

function change(id, edit) {
    const conversation = get().conversations.find(other => other.id === id);
    return conversation && put(edit(conversation));
}

function goTo(id, {replace = false} = {}) {
    set({current: id, drawer: false});
    const url = id ? `#${id}` : location.pathname + location.search;
    if (location.hash.slice(1) === (id ?? "")) return;
    history[replace ? "replaceState" : "pushState"](null, "", url);
}

export const open = id => goTo(id);
export const newChat = () => goTo(null);

export function rename(id, title) {
    change(id, conversation => ({...conversation, title: title.trim()}));
}

export function remove(id) {
    const conversation = get().conversations.find(other => other.id === id);
    if (!conversation) return;
    stop(id);
    set(state => ({conversations: state.conversations.filter(other => other.id !== id)}));
    if (get().current === id) goTo(null, {replace: true});
    database.remove(id).then(() => tellOthers(id));
    toast(`“${kept.titleOf(conversation)}” was deleted.`, () => {
        put(conversation, {touch: false});
        goTo(id);
    });
}

export function setSystem(system) {
    setSettings({system});
    const id = get().current;
    if (id) change(id, conversation => ({...conversation, system}));
}

export function exportConversations(conversations, name) {
    const url = URL.createObjectURL(new Blob([kept.exportFile(conversations)], {type: "application/json"}));
    const link = document.createElement("a");
    link.href = url;
    link.download = `${name.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60) || "shoehorn"}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

export async function importConversations(file) {
    try {
        const conversations = kept.importFile(await file.text());
        for (const conversation of conversations) put(conversation, {touch: false});
        toast(conversations.length === 1 ? "One conversation was imported." : `${conversations.length} conversations were imported.`);
        if (conversations.length === 1) goTo(conversations[0].id);
    } catch (error) {
        toast(`“${file.name}” was not imported: ${error.message}.`);
    }
}

// Messages.

/** Changes the messages of the conversation on the screen; what that removes can be had back. */
function cut(edit, said) {
    const before = currentOf(get());
    stop(before.id);
    const stopped = currentOf(get());
    const after = put({...stopped, messages: edit(stopped.messages)});
    if (said && stopped.messages.length > 0) {
        toast(said, () => {
            stop(before.id);
            put(stopped);
        });
    }
    return after;
}

export async function send(text) {
    const state = get();
    const conversation = currentOf(state) ?? kept.newConversation(state.settings.system);
    const next = put({...conversation, messages: [...conversation.messages, kept.newMessage("user", text)]});
    goTo(next.id);
    await answer(next.id);
}

/** Another answer in the place of this one and what came after it. */
export async function regenerate(messageId) {
    const messages = currentOf(get()).messages, index = messages.findIndex(message => message.id === messageId);
    const later = messages.length - index - 1, lost = messages[index].content !== "" || later > 0;
    const after = cut(all => all.slice(0, index), lost && "The earlier answer was replaced.");
    await answer(after.id);
}

/** Another wording of a question, and an answer to it. */
export async function edit(messageId, text) {
    const index = currentOf(get()).messages.findIndex(message => message.id === messageId);
    const after = cut(all => [...all.slice(0, index), {...all[index], content: text}], "What followed was replaced.");
    await answer(after.id);
}

/** Removes a message; with a question goes its answer. */
export function removeMessage(messageId) {
    cut(all => {
        const index = all.findIndex(message => message.id === messageId);
        const count = all[index].role === "user" && all[index + 1]?.role === "assistant" ? 2 : 1;
        return [...all.slice(0, index), ...all.slice(index + count)];
    }, "The message was deleted.");
}

// Answers.

function setRun(id, patch) {
    set(state => state.runs[id] ? {runs: {...state.runs, [id]: {...state.runs[id], ...patch}}} : {});
}

/** A conversation with the answer that is being written in it, as far as it is. */
function withRun(id) {
    const state = get(), conversation = state.conversations.find(other => other.id === id), run = controllers[id];
    if (!conversation || !run?.message.content) return conversation;
    return {...conversation, messages: [...conversation.messages, {...run.message, unfinished: true}]};
}

/** What became known of an answer: tokens, seconds to the first of them, tokens per second after it. */
function statsOf(run, context) {
    const {usage, sent, first, last, pieces} = run;
    const completion = usage?.completion_tokens ?? pieces;
    const seconds = (last - first) / 1000;
    return {
        completion,
        ...(usage || run.prompt ? {prompt: usage?.prompt_tokens ?? run.prompt} : {}),
        ...(first ? {first: (first - sent) / 1000} : {}),
        ...(completion > 1 && seconds > 0 ? {rate: (completion - 1) / seconds} : {}),
        ...(context ? {context} : {}),
    };
}

/** Waits, and counts down on the screen. False when it was stopped. */
async function countDown(id, seconds, signal) {
    for (let left = Math.max(1, Math.ceil(seconds)); left > 0; --left) {
        if (signal.aborted) return false;
        setRun(id, {retryIn: left});
        await new Promise(resolve => setTimeout(resolve, 1000));
    }
    setRun(id, {retryIn: 0});
    return !signal.aborted;
}

function errorOf(error) {
    return {status: error.status ?? 0, message: error.message, told: error instanceof ApiError};
}

/** Has the model answer the last message of a conversation. */
export async function answer(id) {
    const conversation = get().conversations.find(other => other.id === id);
    const controller = new AbortController(), {signal} = controller;
    const plain = isPlain(get());
    const run = {controller, pieces: 0, message: kept.newMessage("assistant", "", plain ? {plain} : {})};
    controllers[id] = run;
    set(state => ({runs: {...state.runs, [id]: {message: run.message, stats: {completion: 0}, started: Date.now(), retryIn: 0}}}));

    const {settings, key, server} = get();
    const content = plain ? {prompt: kept.requestPrompt(conversation)} : {messages: kept.requestMessages(conversation)};
    const fields = {...(server.model ? {model: server.model.id} : {}), ...content, ...requestFields(settings)};
    // How full the context is, is only said at the end of a stream: this asks beforehand.
    countTokens(content, key, signal).then(count => run.prompt = count, () => {});

    let drawn = 0, saved = performance.now(), error;
    const draw = () => setRun(id, {message: run.message, stats: statsOf(run, contextSize(get()))});
    try {
        if (schemaError(settings.schema)) throw new ApiError(`The JSON schema in the settings is ${schemaError(settings.schema)}`, {status: 400});
        for (let attempt = 1;; ++attempt) {
            try {
                run.sent = performance.now();
                for await (const part of complete(fields, key, signal)) {
                    if (part.finish) run.message = {...run.message, finish: part.finish};
                    if (part.usage) run.usage = part.usage;
                    if (!part.text) continue;
                    const now = run.last = performance.now();
                    run.first ??= now;
                    ++run.pieces;
                    run.message = {...run.message, content: run.message.content + part.text};
                    if (now - drawn >= kDrawMs) {
                        drawn = now;
                        draw();
                    }
                    if (now - saved >= kSaveMs) {
                        saved = now;
                        database.put(withRun(id)).catch(() => {});
                    }
                }
                break;
            } catch (refused) {
                const again = refused.status === 503 && refused.retryAfter !== undefined && attempt <= kMaxRetries && !run.pieces;
                if (!again) throw refused;
                setRun(id, {attempt});
                if (!await countDown(id, refused.retryAfter, signal)) break;
            }
        }
    } catch (caught) {
        if (caught.name !== "AbortError") error = caught;
    }
    // Another run may have begun in this place.
    if (controllers[id] === run) finish(id, error);
}

/** Puts an answer that ended, in whichever way, into its conversation. */
function finish(id, error) {
    const run = controllers[id];
    delete controllers[id];
    const stats = statsOf(run, contextSize(get()));
    const message = {
        ...run.message,
        ...(run.first ? {stats} : {}),
        ...(error ? {error: errorOf(error)} : run.controller.signal.aborted ? {finish: "stopped"} : {}),
    };
    const empty = run.controller.signal.aborted && !message.content;
    set(state => ({runs: Object.fromEntries(Object.entries(state.runs).filter(([other]) => other !== id))}));
    if (!empty) change(id, conversation => ({...conversation, messages: [...conversation.messages, message]}));
    if (error?.status === 401) {
        set(state => ({server: {...state.server, state: "key"}}));
        set({dialog: {name: "key", retry: message.id}});
    } else if (error && error.status === 0) {
        connect();
    } else if (!error && id === get().current) {
        const {answer: said} = kept.splitReasoning(message.content);
        set({announcement: empty ? "Stopped." : `${run.controller.signal.aborted ? "Stopped" : "Answer"}: ${said}`});
    }
}

/** Ends an answer; what came of it stays. */
export function stop(id) {
    const run = controllers[id];
    if (!run) return;
    run.controller.abort();
    finish(id);
}

// The server.

/** Asks what is served, again and again while nobody answers. */
export async function connect() {
    clearTimeout(poll);
    let next;
    try {
        const model = await getModel();
        next = {...get().server, model};
        try {
            next = {...next, props: await getProps(get().key), state: "ok"};
        } catch (error) {
            if (error.status !== 401) throw error;
            next = {...next, props: null, state: "key"};
            if (get().server.state !== "key") set({dialog: {name: "key"}});
        }
    } catch (error) {
        next = {...get().server, state: error.status === 403 ? "forbidden" : "down"};
        poll = setTimeout(connect, kPollMs);
    }
    set({server: next});
    return next.state;
}

/** Takes a key; true when the server does, too. */
export async function useKey(key, keep) {
    set({key});
    if (await connect() === "key") return false;
    keepKey(key, keep);
    return true;
}

// The rest of the page.

export function setSettings(patch) {
    set(state => ({settings: {...state.settings, ...patch}}));
    saveSettings(get().settings);
}

export const showDialog = (name, more) => set({dialog: {name, ...more}});
export const closeDialog = () => set({dialog: null});
export const setDrawer = drawer => set({drawer});

export function toast(text, undo) {
    clearTimeout(toastTimer);
    set({toast: {text, undo}});
    toastTimer = setTimeout(closeToast, kToastMs);
}

export function closeToast() {
    set({toast: null});
}

/** Light or dark, as set here or in the system. */
export function applyTheme() {
    const {theme} = get().settings;
    const dark = theme === "auto" ? matchMedia("(prefers-color-scheme: dark)").matches : theme === "dark";
    document.documentElement.dataset.theme = dark ? "dark" : "light";
}

/** What another tab changed. */
async function reload(id) {
    if (controllers[id]) return;
    const conversation = await database.get(id);
    set(state => ({conversations: byTime([...(conversation ? [conversation] : []), ...state.conversations.filter(other => other.id !== id)])}));
}

export async function start() {
    applyTheme();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", applyTheme);
    const fromHash = () => {
        const id = location.hash.slice(1);
        return get().conversations.some(conversation => conversation.id === id) ? id : null;
    };
    database = await kept.openDatabase();
    const found = new Map((await database.all()).map(conversation => [conversation.id, conversation]));
    for (const conversation of kept.takeUnfinished()) {
        found.set(conversation.id, conversation);
        database.put(conversation).catch(() => {});
    }
    set({conversations: byTime(found.values()), lasting: database.lasting, ready: true});
    goTo(fromHash(), {replace: true});
    addEventListener("popstate", () => set({current: fromHash()}));
    addEventListener("pagehide", () => {
        const unfinished = Object.keys(controllers).map(withRun).filter(Boolean);
        if (unfinished.length) kept.leaveUnfinished(unfinished);
    });
    if (typeof BroadcastChannel === "function") {
        channel = new BroadcastChannel("shoehorn");
        channel.onmessage = ({data}) => reload(data);
    }
    await connect();
}
