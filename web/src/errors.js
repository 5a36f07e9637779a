// What went wrong, in words: what happened, and what to do about it.

const isContextFull = error => error.status === 400 && /context/.test(error.message);

/** @returns {{title: string, detail: string}} */
export function explain(error, hasText) {
    const said = error.message ? `${error.message[0].toUpperCase()}${error.message.slice(1)}.` : "";
    if (!error.told) return {title: "Something went wrong on this page.", detail: said};
    switch (error.status) {
        case 0:
            return {
                title: hasText ? "The connection ended before the answer did." : "The server does not answer.",
                detail: `See whether “shoehorn serve” is still running at ${location.origin}, then try again.`,
            };
        case 401:
            return {
                title: "The server asks for an API key.",
                detail: "It was started with --api-key; whoever started it knows the key.",
            };
        case "settings":
            return {title: "The settings have a mistake.", detail: said};
        case 403:
            return {
                title: "The server does not let this page in.",
                detail: `${said} It has to be opened by the server's own address.`,
            };
        case 503:
            return {
                title: "The server is busy.",
                detail: "All places are taken and the line is full. Try again in a while.",
            };
    }
    if (isContextFull(error)) {
        return {
            title: "The conversation no longer fits into the context.",
            detail: `${said} Delete messages, begin a new chat, or start the server with a larger context (-c).`,
        };
    }
    if (error.status >= 500) return {title: "The server could not finish the answer.", detail: said};
    return {title: "The server refused this request.", detail: `${said} The settings may be the reason.`};
}
