// Figures and times as people read them.

const count = new Intl.NumberFormat("en");

export const integer = value => count.format(value);

/** "9.7 M" of parameters. */
export function parameters(value) {
    for (const [size, unit] of [
        [1e9, "billion"],
        [1e6, "million"],
        [1e3, "thousand"],
    ])
        if (value >= size) return `${Number((value / size).toPrecision(3))} ${unit}`;
    return String(value);
}

export function bytes(value) {
    for (const [power, unit] of [
        [30, "GiB"],
        [20, "MiB"],
        [10, "KiB"],
    ])
        if (value >= 2 ** power) return `${Number((value / 2 ** power).toPrecision(3))} ${unit}`;
    return `${value} bytes`;
}

export const seconds = value => `${value < 10 ? value.toFixed(2) : value.toFixed(0)} s`;
export const rate = value => `${value < 100 ? Number(value.toPrecision(3)) : integer(Math.round(value))} tokens/s`;

/** The name of a model's file without its ending. */
export const modelName = id => id.replace(/\.gguf$/i, "");

/** The heading in the list under which a time goes. */
export function dayOf(time, now = Date.now()) {
    const midnight = new Date(now).setHours(0, 0, 0, 0),
        day = 86_400_000;
    if (time >= midnight) return "Today";
    if (time >= midnight - day) return "Yesterday";
    if (time >= midnight - 7 * day) return "The week before";
    return "Earlier";
}
