// The conversations of this browser: opened, named, removed, and taken to files and back.
import {exportFile, importFile, titleOf} from "./conversations.js";
import {openDatabase, takeUnfinished} from "./database.js";
import {currentOf, findConversation, setSettings, store, toast} from "./page.js";

const {get, set} = store;
let database, channel;

const byTime = conversations => [...conversations].sort((a, b) => b.updated - a.updated);

function tellOthers(id) {
    channel?.postMessage(id);
}

/** Puts a conversation in the place of the one with its id, and keeps it. */
export function put(conversation, {touch = true} = {}) {
    const next = touch ? {...conversation, updated: Date.now()} : conversation;
    set(state => ({conversations: byTime([next, ...state.conversations.filter(other => other.id !== next.id)])}));
    database.put(next).then(
        () => tellOthers(next.id),
        () => toast("This browser has no room left: the conversation is not kept."),
    );
    return next;
}

export function change(id, edit) {
    const conversation = findConversation(id);
    return conversation && put(edit(conversation));
}

/** Keeps a conversation as it is for the moment; the page does not change. */
export function keepDraft(conversation) {
    database.put(conversation).catch(() => {});
}

/** Shows a conversation, or with null an empty one. Its address has its id, for the way back and a new start. */
export function goTo(id, {replace = false} = {}) {
    set({current: id, drawer: false});
    if (location.hash.slice(1) === (id ?? "")) return;
    history[replace ? "replaceState" : "pushState"](null, "", id ? `#${id}` : location.pathname + location.search);
}

export const newChat = () => goTo(null);

export function rename(id, title) {
    change(id, conversation => ({...conversation, title: title.trim()}));
}

export function remove(id) {
    const conversation = findConversation(id);
    set(state => ({conversations: state.conversations.filter(other => other.id !== id)}));
    if (get().current === id) goTo(null, {replace: true});
    database.remove(id).then(() => tellOthers(id));
    toast(`“${titleOf(conversation)}” was deleted.`, () => {
        put(conversation, {touch: false});
        goTo(id);
    });
}

/** What the model is told first, here and in the conversations that begin from now on. */
export function setSystem(system) {
    setSettings({system});
    const conversation = currentOf(get());
    if (conversation) put({...conversation, system}, {touch: false});
}

export function exportConversations(conversations, name) {
    const url = URL.createObjectURL(new Blob([exportFile(conversations)], {type: "application/json"}));
    const link = document.createElement("a");
    link.href = url;
    link.download = `${
        name
            .replace(/[^\p{L}\p{N}]+/gu, "-")
            .replace(/^-|-$/g, "")
            .slice(0, 60) || "shoehorn"
    }.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

export async function importConversations(file) {
    try {
        const conversations = importFile(await file.text());
        for (const conversation of conversations) put(conversation, {touch: false});
        const {length} = conversations;
        toast(length === 1 ? "One conversation was imported." : `${length} conversations were imported.`);
        if (length === 1) goTo(conversations[0].id);
    } catch (error) {
        toast(`“${file.name}” was not imported: ${error.message}.`);
    }
}

/** What another tab changed. */
async function reload(id) {
    if (get().runs[id]) return;
    const conversation = await database.get(id);
    const rest = get().conversations.filter(other => other.id !== id);
    set({conversations: byTime(conversation ? [conversation, ...rest] : rest)});
}

export async function openLibrary() {
    const fromHash = () => findConversation(location.hash.slice(1))?.id ?? null;
    database = await openDatabase();
    const found = new Map((await database.all()).map(conversation => [conversation.id, conversation]));
    for (const conversation of takeUnfinished()) {
        found.set(conversation.id, conversation);
        keepDraft(conversation);
    }
    set({conversations: byTime(found.values()), lasting: database.lasting, ready: true});
    goTo(fromHash(), {replace: true});
    addEventListener("popstate", () => set({current: fromHash()}));
    channel = new BroadcastChannel("shoehorn");
    channel.onmessage = ({data}) => reload(data);
}
