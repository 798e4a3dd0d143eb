//! The administrator's requests against a service on a socket.

use std::sync::Arc;

use certs::Identity;
use serde_json::json;
use tokio::task::{JoinSet, spawn_blocking};

use super::*;
use crate::backup::{ACCOUNT_DATABASE, IDENTITY_FOLDER, PRESENCE_DATABASE};
use crate::membership::RecordSigner;
use crate::service::{ClientState, TrackerService, TransportSecurity};
use crate::store::{AccountStore, PresenceStore, SqliteAccountStore};
use crate::tests::POLICY;

struct Office {
    folder: tempfile::TempDir,
    service: Arc<TrackerService>,
    _server: JoinSet<()>,
}

impl Office {
    async fn open(below: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join(below)).unwrap();
        let data_folder = folder.path().join(below);
        let identity = Identity::load_or_create(&data_folder.join(IDENTITY_FOLDER)).unwrap();
        let accounts = SqliteAccountStore::open(&data_folder.join(ACCOUNT_DATABASE)).unwrap();
        let accounts = AccountStore::start(accounts, RecordSigner::new(&identity)).unwrap();
        let memory = PresenceStore::open(&data_folder.join(PRESENCE_DATABASE)).unwrap();
        let service = Arc::new(TrackerService::start(POLICY, accounts, memory).await.unwrap());
        let control = AdminContext {
            service: Arc::clone(&service),
            data_folder,
            addresses: vec!["127.0.0.1:8000".parse().unwrap()],
            fingerprint: shared::Fingerprint::from_bytes([1; 32]),
        };
        let mut server = JoinSet::new();
        server.spawn(serve(control).unwrap());
        Self { folder, service, _server: server }
    }

    async fn ask(&self, below: &str, command: AdminRequest) -> Result<serde_json::Value, AdminError> {
        let folder = self.folder.path().join(below);
        spawn_blocking(move || send_request(&folder, &command)).await.unwrap()
    }

    async fn code(&self, client: &mut ClientState, request: &str) -> String {
        let crate::service::EncodedReply::Line(line) = client.answer(request.as_bytes()).await else {
            panic!("a list")
        };
        serde_json::from_slice::<serde_json::Value>(&line).unwrap()["code"].as_str().unwrap().to_owned()
    }
}

fn add(user: &str, password: &str) -> AdminRequest {
    AdminRequest::AddUser { user: user.to_owned(), password: password.to_owned() }
}

#[tokio::test]
async fn accounts_come_and_go_while_the_tracker_runs() {
    let office = Office::open("").await;
    let mut client = ClientState::new(Arc::clone(&office.service), [127, 0, 0, 1].into(), TransportSecurity::Plain);
    let login = r#"{"action":"LOGIN","user":"bob","password":"first","port":1}"#;
    assert_eq!(office.ask("", add("bob", "first")).await.unwrap(), json!(null));
    assert!(matches!(office.ask("", add("bob", "first")).await, Err(AdminError::Refused(_))));
    assert!(matches!(office.ask("", add("b b", "first")).await, Err(AdminError::Refused(_))));
    assert_eq!(office.code(&mut client, login).await, "ok");
    let users = office.ask("", AdminRequest::Users {}).await.unwrap();
    assert_eq!(users, json!([{"user": "bob", "fingerprint": null, "online": true}]));
    let peers = office.ask("", AdminRequest::ExportPeers {}).await.unwrap();
    assert_eq!(peers, json!({"bob": {"ip": "127.0.0.1", "port": 1, "files": []}}));
    let exported = office.ask("", AdminRequest::ExportUsers {}).await.unwrap();
    assert!(exported["bob"]["password"].as_str().unwrap().starts_with("$argon2id$"));
    let reset = AdminRequest::ResetPassword { user: "bob".to_owned(), password: "second".to_owned() };
    office.ask("", reset).await.unwrap();
    assert_eq!(office.code(&mut client, r#"{"action":"HEARTBEAT"}"#).await, "not_logged_in");
    assert_eq!(office.code(&mut client, login).await, "auth_failed");
    assert_eq!(office.code(&mut client, &login.replace("first", "second")).await, "ok");
    let status: TrackerStatus = serde_json::from_value(office.ask("", AdminRequest::Status {}).await.unwrap()).unwrap();
    assert_eq!((status.users, status.online), (1, 1));
    let made = office.code(&mut client, r#"{"action":"CREATE_ROOM","room":"lab","user":"bob"}"#).await;
    assert_eq!(made, "ok");
    let rooms = office.ask("", AdminRequest::Rooms {}).await.unwrap();
    assert_eq!(
        (&rooms[0]["name"], &rooms[0]["owner"], &rooms[0]["keyless"]),
        (&json!("lab"), &json!("bob"), &json!(1))
    );
    let delete = |room: &str| AdminRequest::DeleteRoom { room: room.to_owned() };
    for missing in ["nowhere", "\u{1b}[31m"] {
        assert!(matches!(office.ask("", delete(missing)).await, Err(AdminError::Refused(_))));
    }
    office.ask("", delete("#lab")).await.unwrap();
    assert_eq!(office.ask("", AdminRequest::Rooms {}).await.unwrap(), json!([]));
    let remove = || AdminRequest::RemoveUser { user: "bob".to_owned() };
    office.ask("", remove()).await.unwrap();
    assert!(matches!(office.ask("", remove()).await, Err(AdminError::Refused(_))));
    assert_eq!(office.ask("", AdminRequest::Users {}).await.unwrap(), json!([]));
    assert_eq!(office.service.snapshot().sessions, 0);
}

#[tokio::test]
async fn an_unbound_account_is_reachable_without_a_certificate_again() {
    let office = Office::open("").await;
    let key = shared::Fingerprint::from_bytes([9; 32]);
    let mut secure =
        ClientState::new(Arc::clone(&office.service), [127, 0, 0, 1].into(), TransportSecurity::Certified(key));
    let mut plain = ClientState::new(Arc::clone(&office.service), [127, 0, 0, 1].into(), TransportSecurity::Plain);
    let login = r#"{"action":"LOGIN","user":"bob","password":"first"}"#;
    office.ask("", add("bob", "first")).await.unwrap();
    assert_eq!(office.code(&mut secure, login).await, "ok");
    assert_eq!(office.code(&mut plain, login).await, "tls_required");
    office.ask("", AdminRequest::Unbind { user: "bob".to_owned() }).await.unwrap();
    assert_eq!(office.code(&mut plain, login).await, "ok");
    assert_eq!(office.code(&mut secure, r#"{"action":"RESUME"}"#).await, "not_logged_in");
}

#[tokio::test]
async fn a_long_path_and_a_backup() {
    let deep = "a-folder-with-a-long-name-".repeat(6);
    let office = Office::open(&deep).await;
    office.ask(&deep, add("bob", "first")).await.unwrap();
    let data_folder = office.folder.path().join(&deep);
    let copy = office.folder.path().join("copy");
    let (from, to) = (data_folder.clone(), copy.clone());
    let receive = move || {
        let (mut backup, mut file) = (open_backup(&from).unwrap(), std::fs::File::create(to).unwrap());
        let mut buffer = [0; 1000];
        while let some @ [_, ..] = backup.next(&mut buffer).unwrap() {
            io::Write::write_all(&mut file, some).unwrap();
        }
    };
    spawn_blocking(receive).await.unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let restored = crate::backup::restore(elsewhere.path(), &copy).unwrap();
    let key = Identity::load(&data_folder.join(IDENTITY_FOLDER)).unwrap().unwrap().fingerprint();
    assert_eq!((restored.accounts, restored.fingerprint), (1, Some(key)));
    let left = |name: &str| name.starts_with("backup-") || name.starts_with(".tmp");
    assert!(!data_folder.read_dir().unwrap().any(|entry| left(&entry.unwrap().file_name().to_string_lossy())));
    assert!(matches!(send_request(office.folder.path(), &AdminRequest::Status {}), Err(AdminError::NotRunning(_))));
}
