use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// A published case: its flags, key, message and signature.
type Edge = (Vec<String>, [u8; 32], Vec<u8>, [u8; SIGNATURE_LEN]);

/// The published cases at the edges of the curve: keys and Rs of small order, with torsion, not canonical.
fn edges() -> Vec<Edge> {
    let file: Value =
        serde_json::from_str(include_str!("../../tests/data/ed25519/edge_points.json")).unwrap();
    let bytes = |value: &Value| hex::decode(value.as_str().unwrap()).unwrap();
    let edge = |case: &Value| {
        let flags = case["flags"].as_array().map_or(&[][..], Vec::as_slice).iter();
        let flags = flags.map(|flag| flag.as_str().unwrap().to_owned()).collect();
        let [key, signature] = [bytes(&case["key"]), bytes(&case["sig"])];
        (flags, key.try_into().unwrap(), case["msg"].as_str().unwrap().into(), signature.try_into().unwrap())
    };
    file["vectors"].as_array().unwrap().iter().map(edge).collect()
}

/// The rule word by word, by the library's own strict check.
fn verify_by_the_book(key: &[u8; 32], message: &[u8], signature: &[u8; SIGNATURE_LEN]) -> bool {
    let is_canonical = key[31] & 0x7f < 0x7f || key[1..31] != [0xff; 30] || key[0] < 0xed;
    let signature = ed25519_dalek::Signature::from_bytes(signature);
    is_canonical
        && VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
}

fn verify(key: &[u8; 32], message: &[u8], signature: &[u8; SIGNATURE_LEN]) -> bool {
    PublicKey::decode(key).is_ok_and(|key| key.verify(message, signature).is_ok())
}

#[test]
fn the_cheap_check_is_the_strict_one_at_every_edge() {
    let mut accepted = 0;
    for (flags, key, message, signature) in edges() {
        let verdict = verify(&key, &message, &signature);
        assert_eq!(verdict, verify_by_the_book(&key, &message, &signature), "{flags:?}");
        accepted += usize::from(verdict);
    }
    assert!(accepted > 0, "some of them are signatures");
}

#[test]
fn a_key_with_torsion_is_used_but_not_enrolled() {
    let mut seen = [0; 4];
    for (flags, key, ..) in edges() {
        let has = |flag: &str| flags.iter().any(|other| other == flag);
        let (decoded, enrolled) = (PublicKey::decode(&key), PublicKey::enrol(&key));
        match (has("non_canonical_A"), has("low_order_A"), has("low_order_component_A")) {
            (true, ..) => {
                seen[0] += 1;
                assert!(matches!(decoded, Err(KeyError::NotCanonical | KeyError::SmallOrder)), "{decoded:?}");
                assert!(enrolled.is_err());
            }
            (_, true, _) => {
                seen[1] += 1;
                assert_eq!((decoded, enrolled), (Err(KeyError::SmallOrder), Err(KeyError::SmallOrder)));
            }
            (_, _, true) => {
                seen[2] += 1;
                assert!(decoded.is_ok());
                assert_eq!(enrolled, Err(KeyError::Torsion));
            }
            _ => {
                seen[3] += 1;
                assert!(decoded.is_ok() && enrolled.is_ok());
            }
        }
    }
    assert!(seen.iter().all(|&count| count > 0), "{seen:?}");
}

#[test]
fn the_eight_points_of_small_order_are_those_of_the_curve() {
    let mut points = SMALL_ORDER.to_vec();
    points.sort_unstable();
    points.dedup();
    assert_eq!(points.len(), 8);
    for point in points {
        assert!(has_canonical_y(&point));
        assert!(VerifyingKey::from_bytes(&point).unwrap().is_weak());
        assert_eq!(PublicKey::decode(&point), Err(KeyError::SmallOrder));
        let signature: [u8; SIGNATURE_LEN] = [point, [0; 32]].concat().try_into().unwrap();
        assert_eq!(SecretKey::from_seed(&[1; 32]).public().verify(b"", &signature), Err(SignatureError));
    }
}

#[test]
fn what_is_no_key_is_told_apart() {
    assert_eq!(PublicKey::decode(&[0xff; 32]), Err(KeyError::NotCanonical));
    let p = {
        let mut p = [0xff; 32];
        p[0] = 0xed;
        p[31] = 0x7f;
        p
    };
    assert_eq!(PublicKey::decode(&p), Err(KeyError::NotCanonical));
    assert_eq!(PublicKey::decode(&[2; 32]).is_ok(), VerifyingKey::from_bytes(&[2; 32]).is_ok());
    let mut two = [0; 32];
    two[0] = 2;
    assert_eq!(PublicKey::decode(&two), Err(KeyError::NotAPoint));
}

#[test]
fn a_secret_key_prints_no_secret() {
    assert_eq!(format!("{:?}", SecretKey::from_seed(&[7; 32])), "SecretKey(***)");
}

proptest! {
    #[test]
    fn a_signature_verifies_for_its_message_and_key_alone(
        seed in any::<[u8; 32]>(), message in proptest::collection::vec(any::<u8>(), 0..200),
        at in 0..SIGNATURE_LEN, flip in 1..=255_u8, other in any::<[u8; 32]>(),
    ) {
        let secret = SecretKey::from_seed(&seed);
        let mut signature = secret.sign(&message);
        prop_assert_eq!(PublicKey::enrol(secret.public().as_bytes()), Ok(secret.public()));
        prop_assert_eq!(secret.public().verify(&message, &signature), Ok(()));
        prop_assert_eq!(secret.public().verify(&[&message[..], &[0]].concat(), &signature), Err(SignatureError));
        prop_assert!(seed == other || SecretKey::from_seed(&other).public().verify(&message, &signature).is_err());
        signature[at] ^= flip;
        prop_assert_eq!(secret.public().verify(&message, &signature), Err(SignatureError));
        prop_assert!(!verify_by_the_book(secret.public().as_bytes(), &message, &signature));
        prop_assert_eq!(verify(&other, &message, &signature), verify_by_the_book(&other, &message, &signature));
    }
}
