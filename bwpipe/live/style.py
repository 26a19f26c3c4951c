"""How the page of a training looks."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #f6f7f9; --card: #fff; --ink: #1c2129; --soft: #667080; --line: #e3e6eb; --hover: #1c21290d;
  --c0: #2563eb; --c1: #d9660b; --c2: #0f8a5f; --c3: #b02fc4; --c4: #d02b3c; --c5: #0d87a8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171c; --card: #1c2027; --ink: #e4e7ec; --soft: #98a2b3; --line: #2e343e; --hover: #ffffff12;
    --c0: #6ea3ff; --c1: #f5a15b; --c2: #4cc795; --c3: #d98ae6; --c4: #f47c88; --c5: #56c2dd;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem clamp(.75rem, 3vw, 2rem) 3rem; max-width: 82rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; font-variant-numeric: tabular-nums;
}
h1 { margin: 0; font-size: 1.5rem; font-weight: 650; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { margin: 2rem 0 .75rem; font-size: 1.05rem; font-weight: 650; }
header { display: flex; flex-wrap: wrap; gap: .25rem .75rem; align-items: center; margin-bottom: 1rem; }
small { color: var(--soft); font-size: .8rem; font-weight: 400; }
.badge { padding: .05rem .6rem; border-radius: 1rem; font-size: .8rem; font-weight: 600; background: var(--line); }
.running { background: var(--c2); color: var(--card); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: .75rem; margin: 0 0 .75rem; }
dl > div, figure, .table, pre, .sheet { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; }
dl > div { padding: .6rem .9rem; }
dt { color: var(--soft); font-size: .8rem; }
dd { margin: 0; font-size: 1.15rem; font-weight: 600; }
dd small { display: block; }
progress {
  appearance: none; display: block; width: 100%; height: .35rem; margin-bottom: .75rem; border: 0; border-radius: 1rem;
  background: var(--line);
}
progress::-webkit-progress-bar { background: var(--line); border-radius: 1rem; }
progress::-webkit-progress-value { background: var(--c0); border-radius: 1rem; }
progress::-moz-progress-bar { background: var(--c0); border-radius: 1rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: .75rem; }
.charts > :first-child { grid-column: 1 / -1; }
.charts > :first-child .plot { height: 19rem; }
figure { margin: 0; padding: .75rem 1.6rem .6rem .9rem; min-width: 0; }
figcaption { display: flex; flex-wrap: wrap; gap: .1rem .9rem; align-items: baseline; margin-bottom: .6rem; }
.key { color: var(--soft); font-size: .8rem; }
.key::before {
  content: ""; display: inline-block; width: .9rem; height: .2rem; margin-right: .35rem; vertical-align: middle;
  border-radius: 1rem; background: var(--colour);
}
.plot { position: relative; height: 12.5rem; margin: 0 0 1.6rem 3.3rem; border-bottom: 1px solid var(--soft); }
.plot svg { position: absolute; inset: 0; width: 100%; height: 100%; }
.plot span { position: absolute; color: var(--soft); font-size: .75rem; line-height: 1; white-space: nowrap; }
.y { right: 100%; padding-right: .5rem; transform: translateY(-50%); }
.x { top: 100%; padding-top: .45rem; transform: translateX(-50%); }
path { fill: none; vector-effect: non-scaling-stroke; stroke-linejoin: round; stroke-linecap: round; }
.grid { stroke: var(--line); stroke-width: 1; }
.line { stroke: var(--colour); stroke-width: 1.8; }
.raw { stroke: var(--colour); stroke-width: 1; opacity: .28; }
.dots { stroke: var(--colour); stroke-width: 5; }
.band { fill: transparent; }
.band:hover { fill: var(--hover); }
.c0 { --colour: var(--c0); } .c1 { --colour: var(--c1); } .c2 { --colour: var(--c2); }
.c3 { --colour: var(--c3); } .c4 { --colour: var(--c4); } .c5 { --colour: var(--c5); }
.sheet { display: block; max-width: 100%; height: auto; margin: 0 auto; }
.table { max-height: 26rem; overflow: auto; }
table { border-collapse: collapse; width: 100%; font-size: .87rem; }
th, td { padding: .35rem .9rem; text-align: right; white-space: nowrap; }
th { position: sticky; top: 0; background: var(--card); color: var(--soft); font-weight: 500; box-shadow: 0 1px var(--line); }
tr + tr td { border-top: 1px solid var(--line); }
.best td { font-weight: 650; color: var(--c2); }
pre { margin: 0; padding: .9rem 1.1rem; overflow-x: auto; font: .82rem/1.5 ui-monospace, Menlo, Consolas, monospace; }
"""
