// A real OpenID provider on loopback, and hooks with which a test disturbs and questions it.
//
//   node server.mjs CONFIG.json      {port, accessTtl, clients, appUser, introspector: [id, secret]}
//
// POST /_test/fault {count, status, error, description, retryAfter, delay}   the next token requests end so, or late
// POST /_test/revoke {account, keepAccess}     ends the account's grants
// POST /_test/less {scopes}                    what people grant from now on, whatever is asked for
// GET  /_test/asked                            how many token requests came, and refresh tokens that came twice
// GET  /_test/secrets                          every token and code that was ever issued
// Paths as Microsoft has them (/TENANT/oauth2/v2.0/token, authorize, devicecode) lead to the same endpoints.
import http from 'node:http';
import { readFileSync } from 'node:fs';
import { Provider } from 'oidc-provider';
import { Store, revoke, secrets } from './store.mjs';

const config = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const issuer = `http://127.0.0.1:${config.port}`;
const [introspector, introspectorSecret] = config.introspector;
let fault = { count: 0 };
let granted = null;
const asked = { token: 0, faults: 0, grants: {}, errors: [], refreshed: {}, reused: 0 };

const provider = new Provider(issuer, {
  adapter: Store,
  clients: [
    ...config.clients,
    {
      client_id: introspector, client_secret: introspectorSecret, redirect_uris: [], response_types: [],
      grant_types: ['client_credentials'], token_endpoint_auth_method: 'client_secret_basic',
    },
  ],
  // Any name that somebody logs in with is an account, and its mailbox has that name.
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id, email: id, email_verified: true, preferred_username: id }) }),
  // Dovecot compares this with the mailbox; tokens of an application itself have no account.
  extraTokenClaims: (ctx, token) => ({ username: token.accountId || config.appUser }),
  scopes: ['openid', 'offline_access', 'email', 'IMAP.AccessAsUser.All', 'SMTP.Send', '.default'],
  claims: { openid: ['sub'], email: ['email', 'email_verified', 'preferred_username'] },
  conformIdTokenClaims: false,
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    revocation: { enabled: true, allowedPolicy: () => true },
    deviceFlow: { enabled: true },
    resourceIndicators: { enabled: false },
  },
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  pkce: { required: () => true },
  // Every use of a refresh token gives another one, and a second use of the old one ends the whole grant.
  rotateRefreshToken: true,
  issueRefreshToken: async (ctx, client) => client.grantTypeAllowed('refresh_token'),
  ttl: {
    AccessToken: config.accessTtl, ClientCredentials: config.accessTtl, IdToken: 300, RefreshToken: 86400,
    AuthorizationCode: 60, DeviceCode: 300, Session: 3600, Grant: 86400, Interaction: 600,
  },
  cookies: { keys: ['for-loopback-only'] },
});

provider.on('grant.success', (ctx) => {
  const { grant_type: type, refresh_token: used } = ctx.oidc.params;
  asked.grants[type] = (asked.grants[type] || 0) + 1;
  if (used) asked.refreshed[used] = true;
});
provider.on('grant.error', (ctx, error) => {
  const used = ctx.oidc?.params?.refresh_token;
  asked.errors.push(`${error.message}: ${error.error_description || ''} ${error.error_detail || ''}`);
  if (used && asked.refreshed[used]) asked.reused += 1;
});
provider.on('server_error', (ctx, error) => console.error('server_error', error));

const page = (res, body) => {
  res.setHeader('content-type', 'text/html');
  res.end(`<!doctype html><title>provider</title>${body}`);
};

async function bodyOf(req) {
  const parts = [];
  for await (const part of req) parts.push(part);
  return Buffer.concat(parts).toString();
}

// The pages where people log in and consent.
async function interaction(req, res) {
  const { uid, prompt, params, session, grantId } = await provider.interactionDetails(req, res);
  if (req.method === 'GET') {
    const field = prompt.name === 'login' ? '<input name="login"><input name="password" type="password">' : '';
    return page(res, `<form method="post" action="/interaction/${uid}"><input type="hidden" name="prompt" value="${prompt.name}">${field}</form>`);
  }
  const said = new URLSearchParams(await bodyOf(req));
  if (said.get('decision') === 'no') {
    const result = { error: 'access_denied', error_description: 'the person said no' };
    return provider.interactionFinished(req, res, result, { mergeWithLastSubmission: false });
  }
  if (prompt.name === 'login') {
    return provider.interactionFinished(req, res, { login: { accountId: said.get('login') } }, { mergeWithLastSubmission: false });
  }
  const grant = grantId ? await provider.Grant.find(grantId) : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  for (const scope of prompt.details.missingOIDCScope || []) {
    if (granted === null || granted.includes(scope)) grant.addOIDCScope(scope);
    else grant.rejectOIDCScope(scope);
  }
  if (prompt.details.missingOIDCClaims) grant.addOIDCClaims(prompt.details.missingOIDCClaims);
  const consent = { grantId: await grant.save() };
  return provider.interactionFinished(req, res, { consent }, { mergeWithLastSubmission: true });
}

async function hook(name, req, res) {
  const told = req.method === 'POST' ? JSON.parse((await bodyOf(req)) || '{}') : {};
  let answer = {};
  if (name === 'fault') fault = { count: 1, ...told };
  else if (name === 'revoke') answer = { grants: revoke(told.account, told.keepAccess) };
  else if (name === 'less') granted = told.scopes ?? null;
  else if (name === 'asked') answer = { ...asked, refreshed: Object.keys(asked.refreshed).length };
  else if (name === 'secrets') answer = secrets();
  else res.statusCode = 404;
  res.setHeader('content-type', 'application/json');
  res.end(JSON.stringify(answer));
}

// Whether a token request was answered here, with what a test has ordered.
async function disturbed(res) {
  asked.token += 1;
  if (fault.count <= 0) return false;
  fault.count -= 1;
  asked.faults += 1;
  if (fault.delay) await new Promise((done) => setTimeout(done, fault.delay));
  if (!fault.status) return false;
  res.statusCode = fault.status;
  if (fault.retryAfter) res.setHeader('retry-after', String(fault.retryAfter));
  res.setHeader('content-type', 'application/json');
  res.end(JSON.stringify({ error: fault.error || 'temporarily_unavailable', error_description: fault.description || 'ordered by a test' }));
  return true;
}

const answer = provider.callback();
const microsoft = { token: '/token', authorize: '/auth', devicecode: '/device/auth' };

async function serve(req, res) {
  const url = new URL(req.url, issuer);
  const [, first, second] = url.pathname.split('/');
  if (first === '_test') return hook(second, req, res);
  if (first === 'interaction') return interaction(req, res);
  const alias = url.pathname.match(/^\/[^/]+\/oauth2\/v2\.0\/(token|authorize|devicecode)$/);
  if (alias) req.url = microsoft[alias[1]] + url.search;
  if (req.url.split('?')[0] === '/token' && (await disturbed(res))) return undefined;
  return answer(req, res);
}

http.createServer((req, res) => {
  serve(req, res).catch((error) => {
    console.error(error);
    if (!res.headersSent) res.statusCode = 500;
    res.end(String(error.message));
  });
}).listen(config.port, '127.0.0.1', () => console.log('listening on', issuer));
