// What the provider has issued, in memory: its storage adapter, and the tests' view of it.

const models = new Map();

function table(model) {
  if (!models.has(model)) models.set(model, new Map());
  return models.get(model);
}

export class Store {
  constructor(model) {
    this.rows = table(model);
  }

  #alive(row) {
    return row && (!row.expires || row.expires > Date.now()) ? row.payload : undefined;
  }

  #where(key, value) {
    for (const row of this.rows.values()) {
      if (row.payload[key] === value && this.#alive(row)) return row.payload;
    }
    return undefined;
  }

  async upsert(id, payload, expiresIn) {
    this.rows.set(id, { payload, expires: expiresIn && Date.now() + expiresIn * 1000 });
  }

  async find(id) {
    return this.#alive(this.rows.get(id));
  }

  async findByUid(uid) {
    return this.#where('uid', uid);
  }

  async findByUserCode(userCode) {
    return this.#where('userCode', userCode);
  }

  async consume(id) {
    this.rows.get(id).payload.consumed = Math.floor(Date.now() / 1000);
  }

  // Nothing is deleted, only ended: what was a secret once must not be found anywhere later either.
  async destroy(id) {
    const row = this.rows.get(id);
    if (row) row.expires = 1;
  }

  async revokeByGrantId(grantId) {
    for (const row of this.rows.values()) if (row.payload.grantId === grantId) row.expires = 1;
  }
}

// Everything that nobody may ever see written down, by kind.
export function secrets() {
  const kinds = ['AccessToken', 'RefreshToken', 'AuthorizationCode', 'DeviceCode', 'ClientCredentials'];
  return Object.fromEntries(kinds.map((kind) => [kind, [...table(kind).keys()]]));
}

// Ends every grant of an account, as its owner or an administrator does it. Access tokens that are out stay valid for
// their time if `keepAccess`, as with most providers.
export function revoke(account, keepAccess) {
  const grants = [];
  for (const [id, row] of table('Grant')) if (row.payload.accountId === account) grants.push([id, row]);
  for (const [id, row] of grants) {
    row.expires = 1;
    for (const kind of ['RefreshToken', 'AuthorizationCode', 'DeviceCode', ...(keepAccess ? [] : ['AccessToken'])]) {
      for (const token of table(kind).values()) if (token.payload.grantId === id) token.expires = 1;
    }
  }
  return grants.length;
}
