// SPDX-License-Identifier: ISC
// Who belongs to the demo: each program that it starts leads a session of its own, whose number is
// kept in a file, so that a demo that was itself killed is cleared away by the next one. A number
// may be another's by now, therefore the process's title has to fit as well.
import { spawn } from 'node:child_process';
import { appendFileSync, closeSync, openSync, readdirSync, readFileSync, renameSync,
  writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

const TITLES =
  /^(keepsockd|keepsock-supervisor|\S*redis-server|\S*\/keepsock[a-z-]*|ip netns exec keepsock-demo|\/bin\/sh -c read)\b/;

// {pid, session, title} of each of our user's processes; what ends meanwhile is left out.
function processes() {
  const found = [];
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name))
      continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'latin1');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      const title = readFileSync(`/proc/${name}/cmdline`, 'utf8').replace(/\0+/g, ' ').trim();
      if (fields[0] !== 'Z' && TITLES.test(title))
        found.push({ pid: Number(name), session: Number(fields[3]), title });
    } catch {
      continue;
    }
  }
  return found;
}

export class Sessions {
  constructor(path) {
    this.path = path;
  }

  // [[name, session]…], also those of an earlier demo.
  read() {
    try {
      return readFileSync(this.path, 'utf8').split('\n').filter((line) => /^\w+ \d+$/.test(line))
        .map((line) => line.split(' ')).map(([name, session]) => [name, Number(session)]);
    } catch {
      return [];
    }
  }

  members(name, title = /^/) {
    const sessions = new Set(this.read().filter(([owner]) => !name || owner === name)
      .map(([, session]) => session));
    return sessions.size === 0 ? [] :
      processes().filter((process) => sessions.has(process.session) && title.test(process.title));
  }

  // Starts a program in a session of its own, with its output in a log. The session is noted
  // before the program begins, which it does when it is told to.
  start(name, argv, log) {
    this.tidy();
    const output = openSync(log, 'a', 0o600);
    const child = spawn('/bin/sh', ['-c', 'read -r _ && exec "$@" </dev/null', 'keepsock-demo', ...argv],
      { detached: true, stdio: ['pipe', output, output] });
    closeSync(output);
    child.stdin.on('error', () => {});
    if (child.pid !== undefined) {
      appendFileSync(this.path, `${name} ${child.pid}\n`, { mode: 0o600 });
      child.stdin.end('go\n');
    }
    return child;
  }

  // Of those of whom nobody lives any more nothing needs to be known.
  tidy() {
    const alive = new Set(processes().map(({ session }) => session));
    const lines = this.read().filter(([, session]) => alive.has(session));
    writeFileSync(`${this.path}.new`, lines.map((line) => `${line.join(' ')}\n`).join(''), { mode: 0o600 });
    renameSync(`${this.path}.new`, this.path);
  }

  // As a power cut does it: again and again until nobody is left, since whoever lives may start
  // others. Returns how many were killed.
  async kill(name, title) {
    let count = 0;
    for (;;) {
      const members = this.members(name, title);
      if (members.length === 0)
        return count;
      count += signal(members, 'SIGKILL');
      await sleep(5);
    }
  }
}

export function signal(members, number) {
  let count = 0;
  for (const { pid } of members) {
    try {
      process.kill(pid, number);
      count++;
    } catch (error) {
      if (error.code !== 'ESRCH')
        throw error;
    }
  }
  return count;
}
