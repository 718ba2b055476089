//! Realm with the clients, roles and users of the tests.
//!
//! | Client | Token |
//! |---|---|
//! | `floe-secrets-admin` | ours: its roles count, and it may introspect |
//! | `pipeline` | client credentials, with the audience |
//! | `no-audience` | client credentials, without the scope that has the audience mapper |
//! | `lightweight` | client credentials, as a lightweight access token |
//! | `registrar` | client credentials of an account that may register clients, and nothing else |
//! | `cli` | users, by password |
//! | `other` | has the role `admin`, which is not ours |

use http::Method;
use serde_json::{Value, json};

use super::Keycloak;
use super::admin::KeycloakResponse;

/// Audience of the admin API, and the id of the client that has its roles.
pub const AUDIENCE: &str = "floe-secrets-admin";
/// Secret of every client. The characters need an encoding in forms and in basic authentication.
pub const CLIENT_SECRET: &str = "canary+client/secret %&:=";
/// Password of every user.
pub const PASSWORD: &str = "canary+password %&=";

/// Realm that a test made.
#[derive(Clone)]
pub struct Realm<'a> {
    pub name: String,
    pub(super) keycloak: &'a Keycloak,
}

impl Keycloak {
    /// Creates a realm with the clients of the module's table, and the user `alice`.
    pub async fn create_realm(&self, name: &str) -> Realm<'_> {
        let realm = Realm {
            name: name.to_owned(),
            keycloak: self,
        };
        let settings = json!({"realm": name, "enabled": true, "accessTokenLifespan": 300});
        self.admin(Method::POST, "", Some(&settings))
            .await
            .expect_status(201);
        realm.create_scopes().await;
        realm.create_clients().await;
        realm.create_user("alice").await;
        realm
    }
}

impl Realm<'_> {
    /// Issuer of the realm.
    pub fn issuer(&self) -> String {
        self.keycloak.issuer(&self.name)
    }

    /// Calls the admin API; `path` follows the realm.
    pub async fn admin(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> KeycloakResponse {
        let path = format!("/{}{path}", self.name);
        self.keycloak.admin(method, &path, body).await
    }

    async fn create(&self, path: &str, object: &Value) -> String {
        self.admin(Method::POST, path, Some(object))
            .await
            .created_id()
    }

    /// Client scopes: the audience of the admin API, and the groups of a user.
    async fn create_scopes(&self) {
        let mapper = |name: &str, kind: &str, config: Value| json!({"name": name, "protocol": "openid-connect", "protocolMapper": kind, "config": config});
        let audience = mapper(
            "audience",
            "oidc-audience-mapper",
            json!({"included.custom.audience": AUDIENCE, "access.token.claim": "true",
                   "id.token.claim": "false", "introspection.token.claim": "true"}),
        );
        let groups = mapper(
            "groups",
            "oidc-group-membership-mapper",
            json!({"claim.name": "groups", "full.path": "true", "access.token.claim": "true",
                   "id.token.claim": "false", "introspection.token.claim": "true"}),
        );
        for (name, mappers) in [(AUDIENCE, audience), ("groups", groups)] {
            let scope =
                json!({"name": name, "protocol": "openid-connect", "protocolMappers": [mappers]});
            self.create("/client-scopes", &scope).await;
        }
    }

    async fn create_clients(&self) {
        let ours = self.create_client(AUDIENCE, &["basic"], &json!({})).await;
        self.create_client_role(&ours, "viewer").await;
        let other = self.create_client("other", &["basic"], &json!({})).await;
        self.create_client_role(&other, "admin").await;
        let scopes = ["basic", "roles", "groups", AUDIENCE];
        let account = json!({"serviceAccountsEnabled": true});
        self.create_client("pipeline", &scopes, &account).await;
        self.create_client("no-audience", &["basic", "roles"], &account)
            .await;
        let mut light = account.clone();
        light["attributes"] = json!({"client.use.lightweight.access.token.enabled": "true"});
        self.create_client("lightweight", &scopes, &light).await;
        self.create_client("registrar", &["basic", "roles"], &account)
            .await;
        let users = json!({"directAccessGrantsEnabled": true});
        let cli = [&scopes[..], &["profile", "email"]].concat();
        self.create_client("cli", &cli, &users).await;
    }

    /// Creates a confidential client with [`CLIENT_SECRET`], and returns its id.
    pub async fn create_client(&self, client_id: &str, scopes: &[&str], more: &Value) -> String {
        let mut client = json!({
            "clientId": client_id, "enabled": true, "publicClient": false, "secret": CLIENT_SECRET,
            "standardFlowEnabled": false, "defaultClientScopes": scopes, "optionalClientScopes": [],
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            client[name] = value.clone();
        }
        self.create("/clients", &client).await
    }

    async fn create_client_role(&self, client: &str, role: &str) {
        self.admin(
            Method::POST,
            &format!("/clients/{client}/roles"),
            Some(&json!({"name": role})),
        )
        .await
        .expect_status(201);
    }

    /// Creates a user with an e-mail address, the group `/data`, the realm role `engineer`, the role `viewer` of our
    /// client and the role `admin` of another.
    pub async fn create_user(&self, username: &str) -> String {
        let group = self
            .admin(Method::POST, "/groups", Some(&json!({"name": "data"})))
            .await;
        assert!([201, 409].contains(&group.status), "{}", group.text);
        let role = self
            .admin(Method::POST, "/roles", Some(&json!({"name": "engineer"})))
            .await;
        assert!([201, 409].contains(&role.status), "{}", role.text);
        let user = json!({
            "username": username, "enabled": true, "groups": ["/data"],
            "email": format!("{username}@example.com"), "emailVerified": true,
            "firstName": username, "lastName": "Example",
            "credentials": [{"type": "password", "value": PASSWORD, "temporary": false}],
        });
        let id = self.create("/users", &user).await;
        let role = self.object("/roles/engineer").await;
        self.grant(&id, "realm", &role).await;
        for (client, role) in [(AUDIENCE, "viewer"), ("other", "admin")] {
            self.grant_client_role(&id, client, role).await;
        }
        id
    }

    /// Grants a role of a client to a user, or to the hidden user of a service account.
    pub async fn grant_client_role(&self, user: &str, client_id: &str, role: &str) {
        let client = self.client(client_id).await;
        let role = self
            .object(&format!("/clients/{client}/roles/{role}"))
            .await;
        self.grant(user, &format!("clients/{client}"), &role).await;
    }

    async fn grant(&self, user: &str, of: &str, role: &Value) {
        let path = format!("/users/{user}/role-mappings/{of}");
        self.admin(Method::POST, &path, Some(&json!([role])))
            .await
            .expect_status(204);
    }

    /// Lets the client `registrar` register clients: the role for it, and nothing else.
    pub async fn allow_registration(&self) {
        let user = self.service_account("registrar").await;
        self.grant_client_role(&user, "realm-management", "create-client")
            .await;
    }

    /// Lets registered clients have these scopes, by the realm's policy for authenticated registration.
    pub async fn allow_registered_scopes(&self, scopes: &[&str]) {
        let kind = "org.keycloak.services.clientregistration.policy.ClientRegistrationPolicy";
        let policies = self.object(&format!("/components?type={kind}")).await;
        let is_wanted = |policy: &&Value| {
            policy["providerId"] == "allowed-client-templates"
                && policy["subType"] == "authenticated"
        };
        let policy = policies.as_array().into_iter().flatten().find(is_wanted);
        let mut policy = policy.expect("the policy").clone();
        policy["config"]["allowed-client-scopes"] = json!(scopes);
        let id = policy["id"].as_str().expect("an id").to_owned();
        self.admin(Method::PUT, &format!("/components/{id}"), Some(&policy))
            .await
            .expect_status(204);
    }

    /// Id of a client.
    pub async fn client(&self, client_id: &str) -> String {
        let found = self.object(&format!("/clients?clientId={client_id}")).await;
        found[0]["id"].as_str().expect("the client").to_owned()
    }

    /// Id of the hidden user of a service account.
    pub async fn service_account(&self, client_id: &str) -> String {
        let client = self.client(client_id).await;
        let user = self
            .object(&format!("/clients/{client}/service-account-user"))
            .await;
        user["id"].as_str().expect("the user").to_owned()
    }

    /// Reads an object of the admin API.
    pub async fn object(&self, path: &str) -> Value {
        self.admin(Method::GET, path, None)
            .await
            .expect_status(200)
            .json()
    }

    /// Disables a user. Its tokens stay valid until they expire, except for introspection.
    pub async fn disable_user(&self, id: &str) {
        let change = json!({"enabled": false});
        self.admin(Method::PUT, &format!("/users/{id}"), Some(&change))
            .await
            .expect_status(204);
    }

    /// Adds a key that signs from now on. The keys before stay published.
    pub async fn rotate_keys(&self, priority: u32) {
        let key = json!({
            "name": format!("rotated-{priority}"), "providerId": "rsa-generated",
            "providerType": "org.keycloak.keys.KeyProvider",
            "config": {"priority": [priority.to_string()], "enabled": ["true"], "active": ["true"],
                       "algorithm": ["RS256"], "keySize": ["2048"]},
        });
        self.create("/components", &key).await;
    }
}
