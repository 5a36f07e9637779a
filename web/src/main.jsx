// Starts the page.
import {render} from "preact";
import {keepUnfinished} from "./answers.js";
import {App} from "./app.jsx";
import {openLibrary} from "./library.js";
import {followTheme} from "./page.js";
import {watchServer} from "./server.js";

followTheme();
keepUnfinished();
openLibrary();
watchServer();

const root = document.getElementById("app");
root.textContent = "";
render(<App />, root);
