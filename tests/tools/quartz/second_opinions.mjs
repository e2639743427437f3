// What croner (npm) in its Quartz mode says to the cases of cases.py: the next three times in seconds. Usage: node .. < CASES

import { createInterface } from 'node:readline';
import { Cron } from 'croner';

function answer(expression, zone, start) {
  try {
    const cron = new Cron(expression, { timezone: zone, alternativeWeekdays: true, sloppyRanges: true, mode: 'auto' });
    const times = cron.nextRuns(3, new Date(start * 1000)).map((time) => Math.floor(time.getTime() / 1000));
    return times.join(' ') || 'never';
  } catch (error) {
    return `refused ${String(error.message).replace(/\s+/g, ' ')}`;
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const [expression, zone, start] = line.split('\t');
  console.log(answer(expression, zone, Number(start)));
}
