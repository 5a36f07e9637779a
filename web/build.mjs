// Makes page.html of src/: one file with one script and one style, allowed by its own Content-Security-Policy.
import crypto from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import {fileURLToPath} from "node:url";
import {build, transform} from "esbuild";

const root = path.dirname(fileURLToPath(import.meta.url));
const read = file => fs.readFileSync(path.join(root, file), "utf8");

/** The script as it may stand in HTML: "<!--" and "<script" would change how a browser reads what follows. */
async function script() {
    const {
        outputFiles: [file],
    } = await build({
        absWorkingDir: root,
        entryPoints: ["src/main.jsx"],
        bundle: true,
        write: false,
        minify: true,
        format: "iife",
        target: "es2022",
        charset: "utf8",
        jsx: "automatic",
        jsxImportSource: "preact",
        legalComments: "none",
        logLevel: "warning",
    });
    return file.text.trim().replace(/<(?=!--|\/?script)/gi, "\\x3C");
}

async function style() {
    const {code} = await transform(read("src/style.css"), {loader: "css", minify: true, charset: "utf8"});
    return code.trim();
}

/** The licences that ask to come along with the libraries in the script. */
function notices() {
    const {dependencies} = JSON.parse(read("package.json"));
    return Object.keys(dependencies)
        .map(name => {
            const about = JSON.parse(read(`node_modules/${name}/package.json`));
            const head = `${name} ${about.version}, ${about.license}`;
            // Of the two that DOMPurify leaves to choose from, the Apache License 2.0 is the one of this project.
            return about.license.includes("Apache-2.0")
                ? head
                : `${head}\n\n${read(`node_modules/${name}/LICENSE`).trim()}`;
        })
        .join("\n\n----\n\n")
        .replaceAll("--", "- -")
        .replaceAll("\r", "");
}

/** What `node build.mjs` writes. */
export async function makePage() {
    const parts = {script: await script(), style: await style(), notices: notices()};
    parts.hash = `sha256-${crypto.createHash("sha256").update(parts.script).digest("base64")}`;
    return read("src/page.html").replace(/\{\{(\w+)\}\}/g, (_, name) => parts[name]);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
    const page = await makePage();
    fs.writeFileSync(path.join(root, "page.html.partial"), page);
    fs.renameSync(path.join(root, "page.html.partial"), path.join(root, "page.html"));
    console.log(`page.html: ${(Buffer.byteLength(page) / 1024).toFixed(1)} KiB`);
}
