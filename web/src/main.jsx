// Starts the page.
import {render} from "preact";
import {App} from "./app.jsx";
import {start} from "./chat.js";

start();
const root = document.getElementById("app");
root.textContent = "";
render(<App />, root);
