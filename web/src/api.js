// The server's endpoints, asked by paths relative to the page, so that it also works below a prefix.

/** What went wrong: `status` is 0 when no answer came, `retryAfter` are seconds where the server names them. */
export class ApiError extends Error {
    constructor(message, {status = 0, retryAfter} = {}) {
        super(message);
        this.status = status;
        this.retryAfter = retryAfter;
    }
}

async function request(path, {body, key, signal} = {}) {
    let response;
    try {
        response = await fetch(path, {
            method: body === undefined ? "GET" : "POST",
            headers: {
                ...(body === undefined ? {} : {"Content-Type": "application/json"}),
                ...(key ? {Authorization: `Bearer ${key}`} : {}),
            },
            body: body === undefined ? undefined : JSON.stringify(body),
            cache: "no-store",
            signal,
        });
    } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new ApiError("no answer");
    }
    if (response.ok) return response;
    const said = await response.json().catch(() => undefined);
    const after = parseFloat(response.headers.get("Retry-After"));
    throw new ApiError(said?.error?.message ?? `${response.status} ${response.statusText}`.trim(), {
        status: response.status,
        retryAfter: Number.isFinite(after) ? Math.min(Math.max(after, 0), 60) : undefined,
    });
}

const json = async (path, options) => (await request(path, options)).json();

/** The model that is served: {id, meta: {n_ctx, n_ctx_train, n_params, size, ...}}. Needs no key. */
export async function getModel(signal) {
    return (await json("v1/models", {signal})).data[0];
}

/** Defaults, chat template and number of sequences. */
export function getProps(key, signal) {
    return json("props", {key, signal});
}

/** How many tokens the prompt of a chat, or a plain text, has. */
export async function countTokens({messages, prompt}, key, signal) {
    const text = prompt ?? (await json("apply-template", {body: {messages}, key, signal})).prompt;
    const body = {content: text, add_special: prompt !== undefined, parse_special: true};
    return (await json("tokenize", {body, key, signal})).tokens.length;
}

/** The data of server-sent events, without the last, "[DONE]". */
async function* eventsOf(response) {
    const reader = response.body.getReader(),
        decoder = new TextDecoder();
    let rest = "";
    for (;;) {
        const {done, value} = await reader.read();
        rest += done ? decoder.decode() : decoder.decode(value, {stream: true});
        const lines = rest.split(/\r?\n/);
        rest = done ? "" : lines.pop();
        for (const line of lines) {
            if (!line.startsWith("data:")) continue;
            const data = line.slice(5).trim();
            if (data === "[DONE]") return;
            yield JSON.parse(data);
        }
        if (done) throw new ApiError("the connection ended before the answer did");
    }
}

/**
 * An answer as it comes: {text}, {finish} and {usage, timings}, each when it is known. `fields` hold messages, or the prompt of
 * a plain completion.
 */
export async function* complete(fields, key, signal) {
    const body = {...fields, stream: true, stream_options: {include_usage: true}};
    const path = fields.messages ? "v1/chat/completions" : "v1/completions";
    const response = await request(path, {body, key, signal});
    try {
        for await (const event of eventsOf(response)) {
            if (event.error) throw new ApiError(event.error.message, {status: 500});
            const choice = event.choices?.[0];
            const text = choice?.delta?.content ?? choice?.text;
            if (text) yield {text};
            if (choice?.finish_reason) yield {finish: choice.finish_reason};
            if (event.usage) yield {usage: event.usage, timings: event.timings};
        }
    } catch (error) {
        if (error.name === "AbortError" || error instanceof ApiError) throw error;
        throw new ApiError("the connection broke");
    }
}
