"""How the page looks: on wide and narrow screens, light and dark, and on paper. Without > and &, which XML escapes."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f5f6f8; --panel: #ffffff; --ink: #1b2130; --muted: #5b6475; --line: #dfe3ea; --tile: #ffffff;
  --first: #2f5fd0; --second: #c8501e; --heat: 47, 95, 208; --good: #17744a; --bad: #b3261e; --soft: #eef2fb;
  --plus: 222, 66, 50; --minus: 52, 112, 235;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #11141a; --panel: #191e27; --ink: #e6e9f0; --muted: #a0a9ba; --line: #303847; --tile: #11141a;
    --first: #84a9ff; --second: #ff9a66; --heat: 104, 146, 255; --good: #6fd3a0; --bad: #ff8f85; --soft: #222a3a;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 76rem; margin: 0 auto; padding: 2rem 1.25rem 3rem; }
header { margin: 0 .25rem 1.5rem; }
.over { margin: 0; color: var(--muted); font-size: .85rem; letter-spacing: .04em; }
h1 { margin: .1rem 0 .5rem; font-size: 2.1rem; line-height: 1.15; letter-spacing: -.02em; overflow-wrap: anywhere; }
h2 { margin: 0 0 1rem; font-size: 1.2rem; letter-spacing: -.01em; }
h3 { margin: 1.5rem 0 .6rem; font-size: 1rem; }
.lead { margin: 0; max-width: 52rem; color: var(--muted); overflow-wrap: anywhere; }
.warning { margin: 1rem 0 0; color: var(--bad); font-weight: 600; overflow-wrap: anywhere; }
section, .glance { background: var(--panel); border: 1px solid var(--line); border-radius: 12px; }
section { padding: 1.4rem 1.5rem 1.5rem; margin: 1.1rem 0 0; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; margin: 1rem .25rem 0; font-size: .9rem; }
a { color: var(--first); text-decoration: none; }
a:hover, a:focus-visible { text-decoration: underline; }
dl, dd, figure { margin: 0; }
.glance { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.2rem, 1fr)); overflow: hidden; }
.glance div { padding: 1.1rem 1.25rem; box-shadow: 1px 1px 0 0 var(--line); display: flex; flex-direction: column; }
.glance dt { color: var(--muted); font-size: .85rem; order: 2; }
.glance dd { font-size: 1.6rem; font-weight: 650; line-height: 1.25; letter-spacing: -.02em; }
.glance div:first-child dd { color: var(--first); }
.facts {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); gap: 0 2.5rem; font-size: .92rem;
}
.facts div {
  display: flex; justify-content: space-between; gap: 1rem; padding: .3rem 0; border-bottom: 1px solid var(--line);
}
.facts dt { color: var(--muted); }
.facts dd { text-align: right; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.facts .open { color: var(--muted); }
.note { margin: .9rem 0 0; max-width: 60rem; color: var(--muted); font-size: .9rem; }
h2 + .note { margin: -.5rem 0 1rem; }
h3 + .note { margin: -.3rem 0 .8rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 1.2rem 1.8rem; }
.charts figcaption { font-size: .92rem; font-weight: 600; margin: 0 0 .3rem; overflow-wrap: anywhere; }
.scroll + .charts { margin-top: 1.6rem; }
.charts figure { max-width: 30rem; min-width: 0; }
.chart { display: block; width: 100%; height: auto; overflow: visible; }
.chart * { stroke-linejoin: round; }
.chart text { font-family: inherit; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
.scroll:focus-visible, a:focus-visible { outline: 2px solid var(--first); outline-offset: 2px; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--muted); padding: 0 0 .6rem; font-size: .9rem; }
th, td {
  padding: .38rem .8rem; text-align: right; border-bottom: 1px solid var(--line); font-weight: 400;
  white-space: nowrap;
}
thead th { color: var(--muted); font-size: .84rem; vertical-align: bottom; white-space: normal; }
th:first-child, td:first-child { padding-left: .2rem; }
.words { text-align: left; max-width: 24rem; overflow-wrap: break-word; white-space: normal; }
tbody th { font-weight: 600; }
.right { color: var(--good); } .wrong { color: var(--bad); font-weight: 600; }
tr.best td, tr.best th { background: var(--soft); font-weight: 600; }
.matrix { border-collapse: separate; border-spacing: 2px; }
.matrix th, .matrix td { border: 0; padding: .3rem .45rem; text-align: center; }
.matrix tbody th {
  text-align: right; padding-right: .6rem; max-width: 14rem; overflow-wrap: break-word; white-space: normal;
}
.matrix td.cell {
  min-width: 2.7rem; height: 2.3rem; border-radius: 5px; background: rgba(var(--heat), var(--share));
}
.matrix td.none { background: var(--soft); color: transparent; }
.matrix td.miss { background: rgba(var(--plus), var(--share)); }
.matrix td.strong { color: #ffffff; }
.matrix .share { color: var(--muted); padding: .3rem .7rem; text-align: right; }
.matrix thead .tall span { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 9rem; overflow: hidden; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.6rem, 1fr)); gap: 1.1rem .9rem; }
.pictures img, .units img {
  display: block; width: 100%; image-rendering: pixelated;
  border-radius: 5px; border: 1px solid rgba(128, 128, 128, .3);
}
.pictures figcaption {
  margin-top: .35rem; font-size: .82rem; line-height: 1.4; color: var(--muted); overflow-wrap: anywhere;
}
.pictures figcaption b { color: var(--ink); font-weight: 600; }
.pictures figcaption .right { color: var(--good); } .pictures figcaption .wrong { color: var(--bad); }
.units { display: grid; grid-template-columns: repeat(auto-fill, minmax(clamp(2.3rem, 5vw, 3.9rem), 1fr)); gap: 5px; }
.units img { background: var(--tile); border-radius: 3px; }
.scale { display: flex; align-items: center; gap: .7rem; margin: 1rem 0 0; font-size: .85rem; color: var(--muted); }
.scale i { flex: 0 1 14rem; height: .7rem; border-radius: 3px; border: 1px solid var(--line);
  background: linear-gradient(90deg, rgb(var(--minus)), var(--tile), rgb(var(--plus))); }
footer { margin: 1.5rem .25rem 0; color: var(--muted); font-size: .85rem; }
@media screen and (prefers-color-scheme: dark) {
  .ink { filter: invert(.9); }
  .matrix td.strong { color: #0d1118; }
}
@media (max-width: 40rem) {
  main { padding: 1.2rem .7rem 2rem; }
  h1 { font-size: 1.7rem; }
  section { padding: 1.1rem .9rem; }
  .glance { grid-template-columns: 1fr 1fr; }
  .glance div { padding: .8rem .9rem; }
  .glance dd { font-size: 1.3rem; }
  .pictures { grid-template-columns: repeat(auto-fill, minmax(6.2rem, 1fr)); }
  .matrix .share { padding: .2rem; font-size: .75rem; }
  .matrix td.cell { min-width: 2.1rem; height: 2rem; padding: .2rem; font-size: .85rem; }
  th, td { padding: .35rem .55rem; }
}
@media print {
  body { background: #ffffff; font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  section, .glance { border-radius: 0; }
  section { padding: .8rem 0 0; border-width: 1px 0 0; }
  h2, h3 { break-after: avoid; }
  figure, tr, .glance, .units { break-inside: avoid; }
  .scroll { overflow: visible; }
  .cell, .units img, .scale i, tr.best td { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
