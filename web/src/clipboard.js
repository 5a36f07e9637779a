// Copies text; also where the page came by plain HTTP from another machine and browsers have no clipboard for it.

export async function copyText(text) {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    const area = document.createElement("textarea"),
        focused = document.activeElement;
    area.value = text;
    area.setAttribute("aria-hidden", "true");
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    focused?.focus();
    if (!copied) throw new Error("the browser does not allow it");
}
