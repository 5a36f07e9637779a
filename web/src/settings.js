// What the user sets: sampling, the form of answers, the key, the theme. Kept in this browser.

const kSettings = "shoehorn.settings",
    kKey = "shoehorn.key";

/**
 * Fields of a request that hold a number. `fallback` is what counts when the server names no default.
 * The limits are the server's.
 */
export const kNumbers = [
    {name: "temperature", label: "Temperature", min: 0, max: 100, hint: "0 always takes the likeliest token"},
    {name: "top_p", label: "Top-p", min: 0, max: 1, hint: "keeps the likeliest tokens up to this probability"},
    {name: "top_k", label: "Top-k", min: -1, max: 1 << 24, integer: true, hint: "keeps this many; 0 is all"},
    {name: "min_p", label: "Min-p", min: 0, max: 1, hint: "drops tokens below this part of the likeliest"},
    {name: "repeat_penalty", label: "Repeat penalty", min: 0.01, max: 100, hint: "1 is none"},
    {name: "presence_penalty", label: "Presence penalty", min: -10, max: 10, fallback: "0"},
    {name: "frequency_penalty", label: "Frequency penalty", min: -10, max: 10, fallback: "0"},
    {
        name: "max_tokens",
        label: "Longest answer",
        min: 1,
        max: 2 ** 31,
        integer: true,
        fallback: "no limit",
        hint: "in tokens",
    },
    {
        name: "seed",
        label: "Seed",
        min: 0,
        max: 2 ** 53,
        integer: true,
        fallback: "random",
        hint: "the same seed gives the same answer",
    },
];

const kInitial = {numbers: {}, system: "", stop: "", schema: "", theme: "auto"};

export function loadSettings() {
    try {
        return {...kInitial, ...JSON.parse(localStorage.getItem(kSettings) ?? "{}")};
    } catch {
        return kInitial;
    }
}

export function saveSettings(settings) {
    try {
        localStorage.setItem(kSettings, JSON.stringify(settings));
    } catch {
        // Without storage they last as long as the page.
    }
}

export const withDefaults = settings => ({...settings, numbers: {}, stop: "", schema: ""});

export function loadKey() {
    try {
        return localStorage.getItem(kKey) ?? "";
    } catch {
        return "";
    }
}

/** Keeps the key in this browser, or makes it forget one. */
export function keepKey(key, keep) {
    try {
        if (keep && key) localStorage.setItem(kKey, key);
        else localStorage.removeItem(kKey);
    } catch {
        // As above.
    }
}

export const keyIsKept = () => loadKey() !== "";

/** The server's default of a number, as text. */
export function defaultOf(field, props) {
    const given = props?.default_generation_settings?.[field.name === "max_tokens" ? "n_predict" : field.name];
    if (typeof given !== "number" || (field.name === "max_tokens" && given < 0)) return field.fallback ?? "";
    // Floats of the server, written as they were meant.
    return String(Number(given.toPrecision(6)));
}

/** What is wrong with the text of a number field; empty when nothing is. */
export function numberError(field, text) {
    if (text.trim() === "") return "";
    const value = Number(text.replace(",", "."));
    if (!Number.isFinite(value)) return "not a number";
    if (field.integer && !Number.isInteger(value)) return "a whole number, please";
    if (value < field.min || value > field.max) return `from ${field.min} to ${field.max}`;
    return "";
}

/** What is wrong with a JSON schema; empty when nothing is. */
export function schemaError(text) {
    if (text.trim() === "") return "";
    try {
        const schema = JSON.parse(text);
        return schema !== null && typeof schema === "object" && !Array.isArray(schema)
            ? ""
            : "a schema is an object: { … }";
    } catch (error) {
        return `not JSON: ${error.message}`;
    }
}

/** Stop texts: one a line, \n in them for the end of a line. */
const stopsOf = text =>
    text
        .split("\n")
        .filter(Boolean)
        .map(line => line.replaceAll("\\n", "\n").replaceAll("\\t", "\t"));

/** The settings as fields of a request: what is empty, or wrong, stays the server's. */
export function requestFields(settings) {
    const out = {};
    for (const field of kNumbers) {
        const text = settings.numbers[field.name] ?? "";
        if (text.trim() !== "" && !numberError(field, text)) out[field.name] = Number(text.replace(",", "."));
    }
    const stops = stopsOf(settings.stop);
    if (stops.length) out.stop = stops;
    if (settings.schema.trim() && !schemaError(settings.schema))
        out.response_format = {
            type: "json_schema",
            json_schema: {name: "answer", strict: true, schema: JSON.parse(settings.schema)},
        };
    return out;
}
