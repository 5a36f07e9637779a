// Debian's Chromium, for tests of pages.
import fs from "node:fs";

const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(file => fs.existsSync(file));
const playwright = await import("playwright-core").catch(() => undefined);

/** Why a test cannot have a browser; false when it can. */
export const skip = executablePath && playwright ? false : "chromium or playwright-core is not installed";

export function launchBrowser() {
    return playwright.chromium.launch({executablePath, args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]});
}
