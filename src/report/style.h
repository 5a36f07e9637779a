// The style sheet of reports. Colours are those of Okabe and Ito, darker or lighter for contrast; heat maps have steps
// of cividis (Nunez, Anderton, Renslow 2018): both are told apart with any colour vision.
#pragma once

namespace shoehorn::report {

inline constexpr const char* kStyle = R"css(
:root { color-scheme: light dark;
  --bg: #f6f7f9; --card: #ffffff; --text: #1c2128; --soft: #57606a; --line: #d8dee4; --grid: #e6eaee; --link: #0b5cad; --bad: #a40e26;
  --on-bar: #ffffff; --ghost: #d5dbe2;
  --c0: #0072b2; --c1: #b84f00; --c2: #00785a; --c3: #a8487f; --c4: #8a6100; --c5: #2b7fb8; --c6: #6a6a00; --c7: #5f6670; }
@media (prefers-color-scheme: dark) { :root {
  --bg: #0f1317; --card: #171c22; --text: #e4e8ec; --soft: #9aa5b1; --line: #2d353e; --grid: #262d35; --link: #76b7ff; --bad: #ff8f9b;
  --on-bar: #0d1014; --ghost: #333c46;
  --c0: #56b4e9; --c1: #f28e4b; --c2: #35c79b; --c3: #e39ac6; --c4: #e6b03a; --c5: #9ccbf5; --c6: #d9d15a; --c7: #a7b0ba; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body { margin: 0; background: var(--bg); color: var(--text); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
.skip { position: absolute; left: -999em; } .skip:focus { left: 1em; top: 1em; background: var(--card); padding: .5em; }
header, main, footer { max-width: 1160px; margin: 0 auto; padding: 0 16px; }
header { padding-top: 28px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .2em; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 0 0 .6em; }
h3 { font-size: 1rem; margin: 1.4em 0 .5em; }
p { margin: .4em 0 .8em; max-width: 75ch; }
a { color: var(--link); }
.soft, figcaption span, .by, small { color: var(--soft); }
nav ul { display: flex; flex-wrap: wrap; gap: .2em 1.1em; list-style: none; padding: 0; margin: .8em 0 1.2em; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 18px; margin: 0 0 18px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px; margin: 0 0 18px; padding: 0; list-style: none; }
.tiles li { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px; }
.tiles b { display: block; font-size: 1.35rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tiles span { color: var(--soft); font-size: .87rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 20px; align-items: start; }
figure { margin: 0 0 14px; min-width: 0; }
figcaption { margin-bottom: .4em; font-size: .93rem; max-width: 95ch; }
figcaption strong { display: block; }
.chart { width: 100%; height: auto; display: block; max-width: 640px; }
svg text { fill: var(--text); font-size: 11.5px; font-family: inherit; }
svg .axis-title { fill: var(--soft); }
svg .label { font-size: 10.5px; }
svg .grid { stroke: var(--grid); stroke-width: 1; }
svg .axis { stroke: var(--soft); stroke-width: 1; fill: none; }
svg .line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
svg .dashed { stroke-dasharray: 5 4; }
svg .error { fill: none; stroke-width: 1.3; }
svg .mark { stroke: var(--card); stroke-width: 1; }
svg .on-bar { fill: var(--on-bar); } svg .ghost { fill: var(--ghost); }
svg .on-dark { fill: #ffffff; } svg .on-light { fill: #14171a; }
.c0 { fill: var(--c0); stroke: var(--c0); } .c1 { fill: var(--c1); stroke: var(--c1); } .c2 { fill: var(--c2); stroke: var(--c2); }
.c3 { fill: var(--c3); stroke: var(--c3); } .c4 { fill: var(--c4); stroke: var(--c4); } .c5 { fill: var(--c5); stroke: var(--c5); }
.c6 { fill: var(--c6); stroke: var(--c6); } .c7 { fill: var(--c7); stroke: var(--c7); }
rect.c0, rect.c1, rect.c2 { stroke: none; }
.h0 { fill: #00224e; } .h1 { fill: #123570; } .h2 { fill: #3b496c; } .h3 { fill: #575d6d; } .h4 { fill: #707173; }
rect[class^="h"] { stroke: var(--line); stroke-width: .5; }
.h5 { fill: #8a8678; } .h6 { fill: #a59c74; } .h7 { fill: #c3b369; } .h8 { fill: #fee838; }
.legend { display: flex; flex-wrap: wrap; gap: .1em 1em; list-style: none; margin: 0 0 .3em; padding: 0; font-size: .87rem; }
.key { width: 22px; height: 14px; vertical-align: -2px; margin-right: .35em; }
.scroll { overflow-x: auto; max-width: 100%; margin-bottom: 6px; }
.scroll:focus-visible, summary:focus-visible, a:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
table { border-collapse: collapse; min-width: 100%; font-size: .92rem; }
th, td { padding: .34em .7em; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; white-space: nowrap; }
thead th { color: var(--soft); font-weight: 600; border-bottom-width: 2px; }
tbody th { font-weight: 600; position: sticky; left: 0; background: var(--card); min-width: 8.5em; max-width: 46vw; overflow-wrap: break-word; white-space: normal; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
td small, th small { display: block; font-weight: 400; font-size: .8em; white-space: normal; max-width: 24em; }
td.sentence { white-space: normal; min-width: 18em; overflow-wrap: anywhere; }
.missing { color: var(--soft); font-style: italic; }
.reasons { color: var(--soft); font-size: .84rem; margin: 0 0 1.2em; padding-left: 1.6em; overflow-wrap: anywhere; }
.tree, .tree ul { list-style: none; margin: 0; padding-left: 0; }
.tree ul { padding-left: 22px; margin-left: 6px; border-left: 2px solid var(--line); }
.tree li { padding: .35em 0 .1em; overflow-wrap: anywhere; }
.by { display: block; font-size: .87rem; }
.node b { color: var(--link); } .node.outside b { color: var(--soft); }
details { border-top: 1px solid var(--line); padding: .5em 0; }
summary { cursor: pointer; font-weight: 600; overflow-wrap: anywhere; }
summary span { font-weight: 400; color: var(--soft); }
details > div { padding-top: .8em; }
dl { display: grid; grid-template-columns: minmax(8em, max-content) 1fr; gap: .15em 1em; margin: .6em 0; font-size: .87rem; }
dt { color: var(--soft); overflow-wrap: anywhere; } dd { margin: 0; overflow-wrap: anywhere; }
pre { background: var(--bg); border: 1px solid var(--line); border-radius: 6px; padding: .8em; overflow-x: auto; font-size: .85rem; }
.bad { color: var(--bad); }
footer { color: var(--soft); font-size: .85rem; padding-bottom: 28px; }
@media (max-width: 560px) { .chart.xy text { font-size: 13.5px; } .chart.xy .label { font-size: 12px; } section { padding: 14px 12px; } header, main, footer { padding-left: 10px; padding-right: 10px; } }
@media print { body { background: none; } section { break-inside: avoid; border: 0; padding: 0; } nav { display: none; } }
)css";

}  // namespace shoehorn::report
