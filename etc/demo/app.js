// SPDX-License-Identifier: ISC
// The demo page's behaviour, on the official centrifuge SDK. What comes from the network reaches
// the document as text only, never as markup.
'use strict';

const MOST_MESSAGES = 200;
const PRESENCE_EVERY_MS = 3000;
const NOTICE_MS = 12000;
const FIRST_CHANNEL = 'lobby';

const byId = (id) => document.getElementById(id);
const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
const client = new Centrifuge(`${scheme}//${location.host}/connection/websocket`,
  { maxReconnectDelay: 5000 });

const counts = { received: 0, recovered: 0, published: 0, reconnects: 0 };
const ownIds = new Set();
let connectedAt = null;
let disconnectedAt = null;
let noticeTimer = null;

function count(name, by = 1) {
	counts[name] += by;
	byId(name).textContent = counts[name];
}

function element(tag, properties = {}, ...children) {
	const made = Object.assign(document.createElement(tag), properties);
	made.append(...children);
	return made;
}

function plural(number, word) {
	return `${number} ${word}${number === 1 ? '' : 's'}`;
}

function showError(id, error) {
	const place = byId(id);
	place.hidden = !error;
	place.textContent = error ? `${error.message} (${error.code})` : '';
}

// Connection

function setState(state, text = state) {
	byId('state').dataset.state = state;
	byId('state').textContent = text;
}

client.on('connecting', (context) => {
	setState('connecting');
	if (connectedAt !== null) {
		disconnectedAt = Date.now();
		connectedAt = null;
	}
	if (context.code !== 0)
		byId('state').title = `${context.code} ${context.reason}`;
});

client.on('connected', (context) => {
	setState('connected');
	byId('state').title = '';
	byId('client').textContent = context.client;
	byId('transport').textContent = context.transport;
	if (ownIds.size > 0)
		count('reconnects');
	ownIds.add(context.client);
	connectedAt = Date.now();
});

client.on('disconnected', (context) => {
	if (connectedAt !== null)
		disconnectedAt = Date.now();
	connectedAt = null;
	setState('disconnected', context.code === 0 ? 'offline' : `disconnected: ${context.reason}`);
});

client.on('error', (context) => console.warn(context.error));

byId('reconnect').addEventListener('click', () => {
	client.disconnect();
	goOnline();
});

byId('offline').addEventListener('click', () => {
	if (byId('offline').getAttribute('aria-pressed') === 'true') {
		goOnline();
		return;
	}
	client.disconnect();
	byId('offline').setAttribute('aria-pressed', 'true');
	byId('offline').textContent = 'Go online';
});

function goOnline() {
	byId('offline').setAttribute('aria-pressed', 'false');
	byId('offline').textContent = 'Go offline';
	client.connect();
}

setInterval(() => {
	const seconds = connectedAt === null ? null : Math.floor((Date.now() - connectedAt) / 1000);
	byId('uptime').textContent = seconds === null ? '–' : duration(seconds);
}, 1000);

function duration(seconds) {
	const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
	return parts.map((part) => String(part).padStart(2, '0')).join(':');
}

// Channels

byId('subscribe-form').addEventListener('submit', (event) => {
	event.preventDefault();
	const input = byId('channel');
	subscribe(input.value.trim());
	input.value = '';
});

function subscribe(channel) {
	showError('subscribe-error', null);
	if (!channel)
		return;
	if (client.getSubscription(channel)) {
		byId('target').value = channel;
		return;
	}
	const subscription = client.newSubscription(channel);
	const view = channelView(channel, subscription);
	subscription.on('subscribing', () => {
		view.state.dataset.state = 'connecting';
	});
	subscription.on('subscribed', (context) => {
		view.state.dataset.state = 'connected';
		onSubscribed(subscription, context);
		refreshPresence(subscription, view);
	});
	subscription.on('unsubscribed', (context) => {
		if (context.code !== 0)
			showError('subscribe-error', { code: context.code, message: `${channel}: ${context.reason}` });
		forget(channel, subscription, view);
	});
	subscription.on('publication', (context) => onPublication(subscription, context));
	subscription.subscribe();
	byId('target').value = channel;
}

function channelView(channel, subscription) {
	const state = element('span', { className: 'dot' });
	const members = element('span', { className: 'members', title: 'clients present' });
	const leave = element('button', { type: 'button', className: 'quiet', title: 'Unsubscribe' }, '×');
	leave.setAttribute('aria-label', `Unsubscribe from ${channel}`);
	leave.addEventListener('click', () => subscription.unsubscribe());
	state.dataset.state = 'connecting';
	const row = element('li', {}, state, element('span', { className: 'name' }, channel), members, leave);
	row.dataset.channel = channel;
	byId('channels').append(row);
	const option = element('option', { value: channel }, channel);
	byId('target').append(option);
	const view = { row, option, state, members, timer: null };
	view.timer = setInterval(() => refreshPresence(subscription, view), PRESENCE_EVERY_MS);
	return view;
}

function forget(channel, subscription, view) {
	clearInterval(view.timer);
	view.row.remove();
	view.option.remove();
	client.removeSubscription(subscription);
}

async function refreshPresence(subscription, view) {
	if (subscription.state !== Centrifuge.SubscriptionState.Subscribed)
		return;
	try {
		const stats = await subscription.presenceStats();
		view.members.textContent = plural(stats.numClients, 'client');
	} catch {
		view.members.textContent = '';
	}
}

// Recovery: the SDK emits what was missed right after `subscribed`, before it returns, so whatever
// comes until the next microtask is recovered.

const recoveries = new Map();

function onSubscribed(subscription, context) {
	if (!context.wasRecovering)
		return;
	recoveries.set(subscription, 0);
	queueMicrotask(() => {
		const messages = recoveries.get(subscription);
		recoveries.delete(subscription);
		notifyRecovery(subscription.channel, context.recovered, messages);
	});
}

function notifyRecovery(channel, recovered, messages) {
	const away = disconnectedAt === null ? '' :
		` after ${((Date.now() - disconnectedAt) / 1000).toFixed(1)} s away`;
	const text = !recovered ? `${channel}: not recovered${away}; the history no longer reaches back so far.` :
		messages === 0 ? `${channel}: nothing missed${away}.` :
		`${channel}: recovered ${plural(messages, 'missed message')}${away}.`;
	const notice = byId('recovery');
	notice.textContent = text;
	notice.dataset.kind = recovered ? 'recovered' : 'lost';
	notice.hidden = false;
	clearTimeout(noticeTimer);
	noticeTimer = setTimeout(() => {
		notice.hidden = true;
	}, NOTICE_MS);
}

// Messages

function onPublication(subscription, context) {
	const isRecovered = recoveries.has(subscription);
	if (isRecovered) {
		recoveries.set(subscription, recoveries.get(subscription) + 1);
		count('recovered');
	}
	count('received');
	byId('empty').hidden = true;
	byId('messages').prepend(messageView(context, isRecovered));
	while (byId('messages').childElementCount > MOST_MESSAGES)
		byId('messages').lastElementChild.remove();
}

function messageView(context, isRecovered) {
	const meta = element('div', { className: 'meta' },
		element('time', {}, new Date().toLocaleTimeString([], { hour12: false })),
		element('span', { className: 'name' }, context.channel));
	if (context.offset)
		meta.append(element('span', { className: 'offset', title: 'offset in the channel' }, `#${context.offset}`));
	if (context.info && ownIds.has(context.info.client))
		meta.append(element('span', { className: 'tag' }, 'you'));
	if (isRecovered)
		meta.append(element('span', { className: 'tag recovered' }, 'recovered'));
	const text = typeof context.data === 'string' ? context.data : JSON.stringify(context.data, null, 1);
	const item = element('li', {}, meta, element('pre', {}, text));
	item.dataset.offset = context.offset ?? '';
	item.classList.toggle('recovered', isRecovered);
	return item;
}

byId('clear').addEventListener('click', () => {
	byId('messages').replaceChildren();
	byId('empty').hidden = false;
});

// Publishing

function messageData(text) {
	try {
		return JSON.parse(text);
	} catch {
		return text;
	}
}

byId('publish-form').addEventListener('submit', async (event) => {
	event.preventDefault();
	const channel = byId('target').value;
	const text = byId('message').value.trim();
	if (!channel || !text)
		return;
	try {
		await client.publish(channel, messageData(text));
		byId('message').value = '';
		count('published');
		showError('publish-error', null);
	} catch (error) {
		showError('publish-error', error);
	}
});

byId('message').addEventListener('keydown', (event) => {
	if (event.key === 'Enter' && !event.shiftKey) {
		event.preventDefault();
		byId('publish-form').requestSubmit();
	}
});

subscribe(FIRST_CHANNEL);
client.connect();
