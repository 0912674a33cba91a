// SPDX-License-Identifier: ISC
// The files that the demo makes for its Redis and its two nodes. All are written anew at each start
// but the secrets and the data.
import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';

export function writeFile(name, text, mode = 0o644) {
  writeFileSync(`${name}.new`, text, { mode });
  chmodSync(`${name}.new`, mode);
  renameSync(`${name}.new`, name);
}

function keepSecret(name) {
  if (!existsSync(name) || readFileSync(name, 'utf8').trim() === '')
    writeFile(name, randomBytes(24).toString('hex'), 0o600);
  return readFileSync(name, 'utf8').trim();
}

function isFree(address, port) {
  return new Promise((resolve) => {
    const probe = net.createServer();
    probe.on('error', () => resolve(false));
    probe.listen(port, address, () => probe.close(() => resolve(true)));
  });
}

// Below the range of outgoing connections.
export async function freePort(addresses) {
  for (let tries = 0; tries < 1000; tries++) {
    const port = 10000 + Math.floor(Math.random() * 22000);
    const free = await Promise.all(addresses.map((address) => isFree(address, port)));
    if (free.every(Boolean))
      return port;
  }
  throw new Error('no port is free');
}

export function makeSecrets(state) {
  mkdirSync(path.join(state, 'redis'), { recursive: true, mode: 0o700 });
  keepSecret(path.join(state, 'secret'));
  keepSecret(path.join(state, 'ticket-secret'));
  return { apiKey: keepSecret(path.join(state, 'api-key')),
    redisPassword: keepSecret(path.join(state, 'redis/password')) };
}

// The password is in the file: arguments are for everybody to see.
export function writeRedis(state, address, port, password) {
  const file = path.join(state, 'redis/redis.conf');
  const directory = path.resolve(state, 'redis');
  writeFile(file, `# Made by tools/demo at every start.
bind ${address}
port ${port}
requirepass ${password}
dir "${directory.replace(/[\\"]/g, '\\$&')}"
appendonly yes
save ""
daemonize no
`, 0o600);
  return file;
}

function listener(address, port, ...more) {
  return `\t{ ${[`address = "${address}";`, `port = ${port};`, ...more].join(' ')} }`;
}

// The primary's address is the interface's in one scene, and in the other only its listener tells
// who that is.
function listeners(scene, name, { port, tlsPort }) {
  const tls = 'tls: { certificates = ( { certificate = "../tls.pem"; key = "../tls.key"; } );' +
    ' ticket_secret_file = "../ticket-secret"; };';
  const when = 'when = "primary";';
  const all = scene.vip ? [listener('0.0.0.0', port)] :
    [listener(scene.nodes[name], port), listener(scene.primary, port, when)];
  if (tlsPort)
    all.push(scene.vip ? listener('0.0.0.0', tlsPort, tls) : listener(scene.primary, tlsPort, when, tls));
  return `listeners = (\n${all.join(',\n')}\n);`;
}

// On one machine a node that its supervisor no longer looks after would keep the primary's port.
function roleSettings(state, scene) {
  const settings = [];
  if (scene.vip)
    settings.push(`vip = [ "${scene.vip}" ];`, 'vip_interface = "eth0";');
  else
    settings.push('fence = "../fence";');
  if (process.getuid() === 0)
    settings.push('notify_user = "root";');
  return settings.join('\n\t');
}

export function writeNode(state, scene, name, { peerPort, redisPort, ...ports }) {
  const directory = path.join(state, name);
  const peers = Object.keys(scene.nodes).filter((other) => other !== name)
    .map((other) => `"${other}=${scene.nodes[other]}:${peerPort}"`);
  mkdirSync(directory, { recursive: true });
  writeFile(path.join(directory, 'keepsock.conf'), `\
# Made by tools/demo at every start. Only for trying things out: everybody may do everything.
node: { name = "${name}"; run_dir = "run"; state_dir = "state"; };
${listeners(scene, name, ports)}
http: { static_root = "../www"; };
client: { insecure = true; };
channel: {
	allow_subscribe_for_client = true;
	allow_publish_for_client = true;
	allow_presence_for_client = true;
	allow_history_for_client = true;
	presence = true;
	history_size = 100;
	history_ttl = "5m";
	force_recovery = true;
};
# The page's counter: more of it is kept than is published while both nodes are away.
namespaces = ( {
	name = "demo";
	allow_subscribe_for_client = true;
	history_size = 1000;
	history_ttl = "5m";
	force_recovery = true;
} );
http_api: { key_file = "../api-key"; };
admin: { socket = "admin.sock"; };
redis: { server = "redis://${scene.local}:${redisPort}"; password_file = "../redis/password"; };
cluster: {
	peers = [ ${peers.join(', ')} ];
	peer_listen = "${scene.nodes[name]}:${peerPort}";
	secret_file = "../secret";
	socket = "supervisor.sock";
	state_dir = "supervisor";
	min_change_interval = "1s";
	${roleSettings(state, scene)}
};
`);
}

// cluster.fence: kills what a supervisor that hangs or is gone has left of node $1.
export function writeFence(state) {
  writeFile(path.join(state, 'fence'), `#!/bin/bash
# Made by tools/demo. Run by a supervisor of the demo with the arguments NODE EPOCH.
cd "$(dirname "$0")" || exit
killed=
for directory in /proc/[0-9]*; do
	IFS= read -r -d '' title <"$directory/cmdline" || continue
	[[ $title == "keepsockd: "*" of $1 ("* ]] || continue
	read -r stat <"$directory/stat" || continue
	read -r _ _ _ session _ <<<"\${stat##*)}"
	grep -qx "$1 $session" sessions || continue
	kill -KILL "\${directory#/proc/}" && killed+=" \${directory#/proc/}"
done 2>/dev/null
echo "fenced node=$1 epoch=$2 killed=\${killed:- nobody}"
`, 0o755);
}
