//! Handshakes in memory, honest and not.

use std::sync::Arc;

use crate::{Fingerprint, Identity, ServerPin, fingerprint_of, fingerprint_of_chain};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

/// Runs a handshake to its end; each side's result, with the server's view of the client.
fn handshake(
    client: ClientConfig,
    server: ServerConfig,
) -> Result<(Option<Fingerprint>, ClientConnection), rustls::Error> {
    let mut client = ClientConnection::new(Arc::new(client), crate::placeholder_server_name())?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            server.read_tls(&mut wire).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            client.read_tls(&mut wire).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((fingerprint_of_chain(server.peer_certificates()), client))
}

/// A certificate made with these parameters, and its key.
fn forged(change: impl FnOnce(&mut rcgen::CertificateParams)) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let mut params = rcgen::CertificateParams::default();
    change(&mut params);
    let certificate = params.self_signed(&key).unwrap().der().clone();
    (certificate, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
}

/// An honest client's configuration that shows `chain` signed by `key` instead of its own.
fn impostor(chain: Vec<CertificateDer<'static>>, key: &PrivateKeyDer<'static>, pin: &Arc<ServerPin>) -> ClientConfig {
    let mut config = crate::peer_client_config(&Identity::generate().unwrap(), pin).unwrap();
    let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(key).unwrap();
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, signer)));
    config
}

/// The same for a server.
fn impostor_server(chain: Vec<CertificateDer<'static>>, key: &PrivateKeyDer<'static>) -> ServerConfig {
    let mut config = crate::peer_server_config(&Identity::generate().unwrap()).unwrap();
    let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(key).unwrap();
    config.cert_resolver = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, signer)));
    config
}

#[test]
fn both_sides_learn_who_the_other_is() {
    let (alice, bob) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let pin = ServerPin::expecting(bob.fingerprint());
    let (seen, client) =
        handshake(crate::peer_client_config(&alice, &pin).unwrap(), crate::peer_server_config(&bob).unwrap()).unwrap();
    assert_eq!(seen, Some(alice.fingerprint()));
    assert_eq!(pin.presented(), Some(bob.fingerprint()));
    assert_eq!(pin.mismatch(), None);
    assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(client.alpn_protocol(), Some(shared::peer::ALPN));
    assert_eq!(client.handshake_kind(), Some(rustls::HandshakeKind::Full));
}

#[test]
fn the_wrong_certificate_is_refused_and_named() {
    let (bob, mallory) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let pin = ServerPin::expecting(bob.fingerprint());
    let client = crate::peer_client_config(&Identity::generate().unwrap(), &pin).unwrap();
    assert!(handshake(client, crate::peer_server_config(&mallory).unwrap()).is_err());
    assert_eq!(pin.mismatch(), Some(mallory.fingerprint()));
}

#[test]
fn a_copied_certificate_without_its_key_is_refused() {
    let (bob, _) = forged(|_| {});
    let (_, mallorys_key) = forged(|_| {});
    let pin = ServerPin::expecting(fingerprint_of(&bob).unwrap());
    let client = crate::peer_client_config(&Identity::generate().unwrap(), &pin).unwrap();
    assert!(handshake(client, impostor_server(vec![bob.clone()], &mallorys_key)).is_err());

    let server = Identity::generate().unwrap();
    let pin = ServerPin::expecting(server.fingerprint());
    assert!(handshake(impostor(vec![bob], &mallorys_key, &pin), crate::peer_server_config(&server).unwrap()).is_err());
}

#[test]
fn dates_are_not_looked_at() {
    let dates = [
        (rcgen::date_time_ymd(1970, 1, 1), rcgen::date_time_ymd(1970, 1, 2)),
        (rcgen::date_time_ymd(2010, 1, 1), rcgen::date_time_ymd(2020, 1, 1)),
        (rcgen::date_time_ymd(2049, 12, 31), rcgen::date_time_ymd(2050, 1, 1)),
        (rcgen::date_time_ymd(9998, 1, 1), rcgen::date_time_ymd(9999, 12, 31)),
    ];
    for (from, to) in dates {
        let (certificate, key) = forged(|params| (params.not_before, params.not_after) = (from, to));
        let fingerprint = fingerprint_of(&certificate).unwrap();
        let server = Identity::generate().unwrap();
        let pin = ServerPin::expecting(server.fingerprint());
        let config = impostor(vec![certificate.clone()], &key, &pin);
        let (seen, _) = handshake(config, crate::peer_server_config(&server).unwrap()).unwrap();
        assert_eq!(seen, Some(fingerprint), "{from} to {to}");

        for pin in [ServerPin::expecting(fingerprint), ServerPin::trust_on_first_use()] {
            let client = crate::peer_client_config(&Identity::generate().unwrap(), &pin).unwrap();
            handshake(client, impostor_server(vec![certificate.clone()], &key)).unwrap();
            assert_eq!(pin.presented(), Some(fingerprint), "{from} to {to}");
        }
    }
}

#[test]
fn dates_excuse_nothing_else() {
    let old = |params: &mut rcgen::CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let (certificate, _) = forged(old);
    let (_, mallorys_key) = forged(old);
    let (authority, authority_key) = forged(|params| {
        old(params);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    // Another key's signature under the handshake, and another use than ours.
    for (certificate, key) in [(certificate, &mallorys_key), (authority, &authority_key)] {
        let server = Identity::generate().unwrap();
        let pin = ServerPin::expecting(server.fingerprint());
        let config = impostor(vec![certificate.clone()], key, &pin);
        assert!(handshake(config, crate::peer_server_config(&server).unwrap()).is_err());
        let pin = ServerPin::expecting(fingerprint_of(&certificate).unwrap());
        let client = crate::peer_client_config(&Identity::generate().unwrap(), &pin).unwrap();
        assert!(handshake(client, impostor_server(vec![certificate], key)).is_err());
    }
}

#[test]
fn a_certificate_changed_after_it_was_signed_is_refused() {
    // Its dates stand in the part that is signed: 2020 becomes 2030.
    let (certificate, key) = forged(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let mut changed = certificate.to_vec();
    let at = changed.windows(6).position(|bytes| bytes == b"200101").unwrap();
    changed[at] = b'3';
    let changed = CertificateDer::from(changed);
    let pin = ServerPin::trust_on_first_use();
    let client = crate::peer_client_config(&Identity::generate().unwrap(), &pin).unwrap();
    assert!(handshake(client, impostor_server(vec![changed], &key)).is_err());
}

#[test]
fn a_chain_is_refused() {
    let (leaf, key) = forged(|_| {});
    let (other, _) = forged(|_| {});
    let server = Identity::generate().unwrap();
    let pin = ServerPin::expecting(server.fingerprint());
    let config = impostor(vec![leaf.clone(), other.clone()], &key, &pin);
    assert!(handshake(config, crate::peer_server_config(&server).unwrap()).is_err());

    let pin = ServerPin::expecting(fingerprint_of(&leaf).unwrap());
    let client = crate::peer_client_config(&Identity::generate().unwrap(), &pin).unwrap();
    assert!(handshake(client, impostor_server(vec![leaf, other], &key)).is_err());
}

#[test]
fn a_certificate_signed_by_another_key_is_refused() {
    let authority_key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let authority = rcgen::Issuer::new(rcgen::CertificateParams::default(), &authority_key);
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let certificate = rcgen::CertificateParams::default().signed_by(&key, &authority).unwrap().der().clone();
    let server = Identity::generate().unwrap();
    let pin = ServerPin::expecting(server.fingerprint());
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    assert!(handshake(impostor(vec![certificate], &key, &pin), crate::peer_server_config(&server).unwrap()).is_err());
}

#[test]
fn a_peer_wants_a_client_certificate_and_the_tracker_does_not() {
    let server = Identity::generate().unwrap();
    let pin = ServerPin::trust_on_first_use();
    let anonymous = || crate::tracker_client_config(None, &pin).unwrap();
    let (seen, _) = handshake(anonymous(), crate::tracker_server_config(&server).unwrap()).unwrap();
    assert_eq!(seen, None);
    assert_eq!(pin.presented(), Some(server.fingerprint()));

    let mut demanding = crate::peer_server_config(&server).unwrap();
    demanding.alpn_protocols.clear();
    assert!(handshake(anonymous(), demanding).is_err());
}

#[test]
fn another_protocol_is_refused() {
    let (alice, bob) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let mut client = crate::peer_client_config(&alice, &ServerPin::trust_on_first_use()).unwrap();
    client.alpn_protocols = vec![b"h3".to_vec()];
    assert!(handshake(client, crate::peer_server_config(&bob).unwrap()).is_err());
}

#[test]
fn nothing_is_resumed() {
    let (alice, bob) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let client = crate::peer_client_config(&alice, &ServerPin::expecting(bob.fingerprint())).unwrap();
    let server = crate::peer_server_config(&bob).unwrap();
    handshake(client.clone(), server.clone()).unwrap();
    let (_, second) = handshake(client, server).unwrap();
    assert_eq!(second.handshake_kind(), Some(rustls::HandshakeKind::Full));
}
