// Many pages at once, each with npm `eventsource`; prints how they are, one JSON object a line.
//
//   node pages.mjs URL COUNT
//
// {"open": 60, "dead": 0, "got": {"some data": 60}}: a dead one got an answer that ends an
// EventSource for good. Printed whenever that changes. Ends when it is killed.

import { EventSource } from "eventsource";

const [url, count] = process.argv.slice(2);
const got = {};
const sources = Array.from({ length: Number(count) }, () => new EventSource(url));
let printed = "";

function print() {
  const number = (state) => sources.filter((source) => source.readyState === state).length;
  const line = JSON.stringify({ open: number(EventSource.OPEN), dead: number(EventSource.CLOSED), got });
  if (line !== printed) process.stdout.write(line + "\n");
  printed = line;
}

for (const source of sources) {
  source.onopen = source.onerror = print;
  source.onmessage = ({ data }) => {
    got[data] = (got[data] ?? 0) + 1;
    print();
  };
}
