// Questions and answers: sends a conversation to the model and writes what comes into it.
import {ApiError, complete, countTokens} from "./api.js";
import {newConversation, newMessage, requestMessages, requestPrompt, splitReasoning} from "./conversations.js";
import {leaveUnfinished} from "./database.js";
import {change, goTo, keepDraft, put, remove} from "./library.js";
import {contextSize, currentOf, findConversation, isPlain, store, toast} from "./page.js";
import {connect} from "./server.js";
import {requestFields, schemaError} from "./settings.js";

const kDrawMs = 100,
    kSaveMs = 500,
    kMaxRetries = 5;
const {get, set} = store;

/** What the answers being written are made of, by conversation; the store has what is drawn of them. */
const runs = {};

// Changes of the conversation on the screen.

/** Changes its messages; what that removes can be had back where `said` says so. */
function cut(edit, said) {
    const {id} = currentOf(get());
    stop(id);
    const before = findConversation(id);
    put({...before, messages: edit(before.messages)});
    if (said) {
        toast(said, () => {
            stop(id);
            put(before);
        });
    }
    return id;
}

const indexOf = messageId => currentOf(get()).messages.findIndex(message => message.id === messageId);

export async function send(text) {
    const conversation = currentOf(get()) ?? newConversation(get().settings.system);
    put({...conversation, messages: [...conversation.messages, newMessage("user", text)]});
    goTo(conversation.id);
    await ask(conversation.id);
}

/** Another answer in the place of this one and what came after it. */
export async function regenerate(messageId) {
    const {messages} = currentOf(get()),
        index = indexOf(messageId);
    const lost = messages[index].content !== "" || index < messages.length - 1;
    await ask(cut(all => all.slice(0, index), lost && "The earlier answer was replaced."));
}

/** Another wording of a question, and an answer to it. */
export async function edit(messageId, text) {
    const index = indexOf(messageId);
    await ask(cut(all => [...all.slice(0, index), {...all[index], content: text}], "What followed was replaced."));
}

/** Removes a message; with a question goes its answer. */
export function removeMessage(messageId) {
    const index = indexOf(messageId);
    cut(all => {
        const count = all[index].role === "user" && all[index + 1]?.role === "assistant" ? 2 : 1;
        return [...all.slice(0, index), ...all.slice(index + count)];
    }, "The message was deleted.");
}

export function removeConversation(id) {
    stop(id);
    remove(id);
}

// Answers.

function draw(id, patch) {
    set(state => (state.runs[id] ? {runs: {...state.runs, [id]: {...state.runs[id], ...patch}}} : {}));
}

/** A conversation with the answer that is being written in it, as far as it is. */
function withUnfinished(id) {
    const conversation = findConversation(id),
        {message} = runs[id];
    if (!conversation || !message.content) return conversation;
    return {...conversation, messages: [...conversation.messages, {...message, unfinished: true}]};
}

/** What is known of an answer: tokens, seconds to the first of them, tokens per second after it. */
function statsOf({usage, timings, prompt, sent, first, last, pieces}) {
    const completion = usage?.completion_tokens ?? pieces,
        context = contextSize(get());
    // The server measures where the tokens are made; pieces can wait on their way and come together.
    const seconds = (last - first) / 1000,
        rate = timings?.predicted_per_second ?? (seconds > 0.1 ? (completion - 1) / seconds : 0);
    return {
        completion,
        ...(usage || prompt ? {prompt: usage?.prompt_tokens ?? prompt} : {}),
        ...(first ? {first: (first - sent) / 1000} : {}),
        ...(completion > 1 && rate > 0 ? {rate} : {}),
        ...(context ? {context} : {}),
    };
}

/** Waits, and counts down on the screen; returns early when it is stopped. */
async function countDown(id, seconds, signal) {
    for (let left = Math.max(1, Math.ceil(seconds)); left > 0 && !signal.aborted; --left) {
        draw(id, {retryIn: left});
        await new Promise(resolve => setTimeout(resolve, 1000));
    }
    if (!signal.aborted) draw(id, {retryIn: 0});
}

/** Reads one answer into `run`. */
async function read(id, run, fields, key) {
    let drawn = 0,
        pace = kDrawMs,
        saved = performance.now();
    run.sent = saved;
    for await (const part of complete(fields, key, run.controller.signal)) {
        if (part.finish) run.message = {...run.message, finish: part.finish};
        if (part.usage) Object.assign(run, {usage: part.usage, timings: part.timings});
        if (!part.text) continue;
        const now = performance.now();
        run.first ??= now;
        run.last = now;
        ++run.pieces;
        run.message = {...run.message, content: run.message.content + part.text};
        if (now - drawn >= pace) {
            draw(id, {message: run.message, stats: statsOf(run)});
            // The page is drawn before this goes on; a slow machine spends a fifth of its time on that at most.
            await undefined;
            drawn = performance.now();
            pace = Math.max(kDrawMs, 4 * (drawn - now));
        }
        if (now - saved >= kSaveMs) {
            saved = now;
            keepDraft(withUnfinished(id));
        }
    }
}

/** Has the model answer the last message of a conversation. A server that is busy is asked again when it says to. */
export async function ask(id) {
    const {settings, key, server} = get(),
        conversation = findConversation(id),
        plain = isPlain(get());
    const controller = new AbortController(),
        {signal} = controller;
    const run = (runs[id] = {controller, pieces: 0, message: newMessage("assistant", "", plain ? {plain} : {})});
    const shown = {message: run.message, stats: statsOf(run), started: Date.now(), retryIn: 0, attempt: 1};
    set(state => ({runs: {...state.runs, [id]: shown}}));
    let error;
    try {
        const wrong = schemaError(settings.schema);
        if (wrong) throw new ApiError(`the JSON schema is ${wrong}`, {status: "settings"});
        const content = plain ? {prompt: requestPrompt(conversation)} : {messages: requestMessages(conversation)};
        const fields = {...(server.model ? {model: server.model.id} : {}), ...content, ...requestFields(settings)};
        // How full the context is, a stream only says at its end.
        countTokens(content, key, signal).then(
            count => (run.prompt = count),
            () => {},
        );
        for (let attempt = 1; !signal.aborted; ++attempt) {
            draw(id, {attempt});
            try {
                await read(id, run, fields, key);
                break;
            } catch (refused) {
                const busy = refused.status === 503 && refused.retryAfter !== undefined && !run.pieces;
                if (!busy || attempt > kMaxRetries) throw refused;
                await countDown(id, refused.retryAfter, signal);
            }
        }
    } catch (caught) {
        if (caught.name !== "AbortError") error = caught;
    }
    // stop() has finished it already, and another may run in its place.
    if (runs[id] === run) finish(id, error);
}

/** Puts an answer that ended, in whichever way, into its conversation. */
function finish(id, error) {
    const run = runs[id],
        stopped = run.controller.signal.aborted;
    delete runs[id];
    const message = {
        ...run.message,
        ...(run.first ? {stats: statsOf(run)} : {}),
        ...(stopped ? {finish: "stopped"} : {}),
        ...(error ? {error: {status: error.status, message: error.message, told: error instanceof ApiError}} : {}),
    };
    set(state => ({runs: Object.fromEntries(Object.entries(state.runs).filter(([other]) => other !== id))}));
    if (!stopped || message.content)
        change(id, conversation => ({...conversation, messages: [...conversation.messages, message]}));
    if (error?.status === 401) {
        set(state => ({server: {...state.server, state: "key"}, dialog: {name: "key", retry: message.id}}));
    } else if (error?.status === 0) {
        connect();
    } else if (!error && id === get().current) {
        set({announcement: `${stopped ? "Stopped" : "Answer"}: ${splitReasoning(message.content).answer}`});
    }
}

/** Ends an answer; what came of it stays. */
export function stop(id) {
    if (!runs[id]) return;
    runs[id].controller.abort();
    finish(id);
}

export function keepUnfinished() {
    addEventListener("pagehide", () => {
        const conversations = Object.keys(runs).map(withUnfinished).filter(Boolean);
        if (conversations.length) leaveUnfinished(conversations);
    });
}
