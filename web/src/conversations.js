// Conversations: what they are, how they change, how they become requests and files.

/**
 * @typedef {{id: string, role: "user" | "assistant", content: string, time: number, stats?: object, finish?: string,
 *     error?: object, unfinished?: boolean, plain?: boolean}} Message
 * @typedef {{id: string, title: string, system: string, created: number, updated: number, messages: Message[]}}
 *     Conversation
 */

const newId = () => [...crypto.getRandomValues(new Uint8Array(12))].map(b => b.toString(16).padStart(2, "0")).join("");

/** @returns {Conversation} */
export function newConversation(system) {
    const now = Date.now();
    return {id: newId(), title: "", system, created: now, updated: now, messages: []};
}

/** @returns {Message} */
export function newMessage(role, content, more) {
    return {id: newId(), role, content, time: Date.now(), ...more};
}

/** The name that was given, or how the first question begins. */
export function titleOf(conversation) {
    if (conversation.title) return conversation.title;
    const first = conversation.messages.find(message => message.role === "user")?.content.trim() ?? "";
    const line = first.split("\n", 1)[0];
    return line.length > 80 ? `${line.slice(0, 79)}…` : line || "New chat";
}

/** Those whose title or text has all words of the query. */
export function search(conversations, query) {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) return conversations;
    return conversations.filter(conversation => {
        const text = [conversation.title, ...conversation.messages.map(message => message.content)]
            .join("\n")
            .toLowerCase();
        return words.every(word => text.includes(word));
    });
}

/** An answer apart from the reasoning that models write in front of it; `open` while that goes on. */
export function splitReasoning(text) {
    const begin = /^\s*<think>/.exec(text);
    const end = text.indexOf("</think>");
    const from = begin ? begin[0].length : 0;
    if (end >= 0)
        return {reasoning: text.slice(from, end).trim(), answer: text.slice(end + 8).trimStart(), open: false};
    if (begin) return {reasoning: text.slice(from).trimStart(), answer: "", open: true};
    return {reasoning: "", answer: text, open: false};
}

/** Messages as the endpoint takes them. Neighbours of one role become one: many templates want roles to take turns. */
export function requestMessages(conversation) {
    const out = conversation.system.trim() ? [{role: "system", content: conversation.system}] : [];
    for (const message of conversation.messages) {
        const content = message.role === "assistant" ? splitReasoning(message.content).answer : message.content;
        if (!content) continue;
        const last = out.at(-1);
        if (last?.role === message.role) last.content += `\n\n${content}`;
        else out.push({role: message.role, content});
    }
    return out;
}

/** The same for a model without a chat template: one text that it goes on with. */
export function requestPrompt(conversation) {
    let out = conversation.system.trim() ? `${conversation.system}\n\n` : "";
    conversation.messages.forEach((message, i) => {
        out += message.role === "user" && i > 0 ? `\n\n${message.content}` : message.content;
    });
    return out;
}

// Files.

export function exportFile(conversations) {
    return JSON.stringify({format: "shoehorn-conversations", version: 1, conversations}, null, 1);
}

const isText = value => typeof value === "string";

function readMessage(from) {
    if (!["user", "assistant"].includes(from?.role) || !isText(from.content))
        throw new Error("a message is not of this form");
    return newMessage(from.role, from.content, {
        time: Number(from.time) || Date.now(),
        ...(typeof from.stats === "object" && from.stats ? {stats: readStats(from.stats)} : {}),
        ...(isText(from.finish) ? {finish: from.finish} : {}),
        ...(from.unfinished ? {unfinished: true} : {}),
        ...(from.plain ? {plain: true} : {}),
    });
}

function readStats(from) {
    return Object.fromEntries(
        ["prompt", "completion", "first", "rate", "context"]
            .filter(key => Number.isFinite(from[key]))
            .map(key => [key, from[key]]),
    );
}

/** Conversations of a file, with new ids, so that nothing that is here is replaced. Throws with what is wrong. */
export function importFile(text) {
    let file;
    try {
        file = JSON.parse(text);
    } catch {
        throw new Error("it is not JSON");
    }
    if (file?.format !== "shoehorn-conversations" || !Array.isArray(file.conversations))
        throw new Error("it was not exported here");
    return file.conversations.map(from => {
        if (!Array.isArray(from?.messages)) throw new Error("a conversation has no messages");
        return {
            id: newId(),
            title: isText(from.title) ? from.title : "",
            system: isText(from.system) ? from.system : "",
            created: Number(from.created) || Date.now(),
            updated: Number(from.updated) || Date.now(),
            messages: from.messages.map(readMessage),
        };
    });
}
