//! Accounts that are made and never used, and others.

use std::time::{Duration, SystemTime};

use super::tls_clients::{RESUME, registered};
use super::tracker_harness::{World, login, logout, register};
use crate::store::UNUSED_ACCOUNT_LIFETIME;

#[tokio::test]
async fn an_account_lapses_only_if_nobody_ever_logged_in() {
    let world = World::new().await;
    let (dave, mut by_key) = registered(&world, "dave").await;
    assert_eq!(by_key.code(RESUME).await, "ok");
    let (eve, _) = registered(&world, "eve").await;
    let mut plain = world.plain().await;
    for user in ["bob", "carol", "zoe"] {
        assert_eq!(plain.code(&register(user)).await, "ok");
    }
    assert_eq!(plain.code(&login("bob")).await, "ok");
    assert_eq!(plain.code(&logout("bob")).await, "ok");
    // A login with a wrong password uses nothing.
    assert_eq!(world.once(&login("zoe").replace("s3nha", "x")).await["code"], "auth_failed");
    let world = world.restarted(true).await;
    assert_eq!(world.once(&login("carol")).await["code"], "ok");
    let registered_at = SystemTime::now();
    world.service.remove_lapsed_accounts(registered_at + UNUSED_ACCOUNT_LIFETIME - Duration::from_secs(60)).await;
    assert_eq!(world.once(&register("zoe")).await["code"], "user_exists");
    world.service.remove_lapsed_accounts(registered_at + UNUSED_ACCOUNT_LIFETIME).await;
    for (user, code) in [("bob", "ok"), ("carol", "ok"), ("zoe", "auth_failed")] {
        assert_eq!(world.once(&login(user)).await["code"], code, "{user}");
    }
    assert_eq!(world.tls(Some(&dave)).await.code(RESUME).await, "ok");
    assert_eq!(world.tls(Some(&eve)).await.code(RESUME).await, "not_logged_in");
    assert_eq!(world.once(&register("zoe")).await["code"], "ok");
}
