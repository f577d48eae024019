// Reads one event stream with npm `eventsource` and prints what it hands out, one JSON object a line.
//
//   node read.mjs URL [EVENT_NAME...]
//
// The first line is {"open": true}; every connection prints one. Ends when it is killed.

import { EventSource } from "eventsource";

const [url, ...names] = process.argv.slice(2);
const source = new EventSource(url);

function print(object) {
  process.stdout.write(JSON.stringify(object) + "\n");
}

source.onopen = () => print({ open: true });
source.onerror = (error) => {
  console.error(`error: code ${error.code}, ${error.message}`);
  // Any status but 200 ends an EventSource for good: nothing more would ever be printed.
  if (source.readyState === EventSource.CLOSED) process.exit(1);
};
for (const name of ["message", ...names]) {
  source.addEventListener(name, ({ type, data, lastEventId }) => print({ type, data, id: lastEventId }));
}
