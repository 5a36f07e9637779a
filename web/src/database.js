// The browser's database of conversations.

const kUnfinished = "shoehorn.unfinished";

const settled = request =>
    new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
    });

/** Where conversations stay. A browser that has no database keeps them until the page is closed: `lasting` is false. */
export async function openDatabase() {
    let db;
    try {
        const request = indexedDB.open("shoehorn", 1);
        request.onupgradeneeded = () => request.result.createObjectStore("conversations", {keyPath: "id"});
        db = await settled(request);
    } catch {
        return {
            lasting: false,
            all: async () => [],
            get: async () => undefined,
            put: async () => {},
            remove: async () => {},
        };
    }
    // Another version of the page may want to change it.
    db.onversionchange = () => db.close();
    const table = mode => db.transaction("conversations", mode).objectStore("conversations");
    return {
        lasting: true,
        all: () => settled(table("readonly").getAll()),
        get: id => settled(table("readonly").get(id)),
        put: conversation => settled(table("readwrite").put(conversation)),
        remove: id => settled(table("readwrite").delete(id)),
    };
}

/** A page that goes away has no time for a database: what is being written waits here for the next one. */
export function leaveUnfinished(conversations) {
    try {
        localStorage.setItem(kUnfinished, JSON.stringify(conversations));
    } catch {
        // Full or forbidden: the database has it as it was half a second ago.
    }
}

/** What leaveUnfinished() kept, once. */
export function takeUnfinished() {
    try {
        const found = JSON.parse(localStorage.getItem(kUnfinished) ?? "[]");
        localStorage.removeItem(kUnfinished);
        return found;
    } catch {
        return [];
    }
}
