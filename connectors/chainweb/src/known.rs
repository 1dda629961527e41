//! What is known of public networks: their genesis blocks, and dated checkpoints.
//!
//! Nobody has to believe any of it: it is there to be looked at, compared with what others say, and put into a trust file
//! by whoever wants to. Nothing in here makes a block trusted by itself. Blocks of public networks are facts of those
//! networks; each has its origin beside it.

use crate::graph::ChainId;
use crate::hash::Hash;

/// A public network.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Its name.
    pub network: &'static str,
    /// The genesis block of each chain, ascending.
    pub genesis: &'static [KnownBlock],
    /// Where the hashes of the genesis blocks are from.
    pub genesis_origin: &'static str,
    /// From the oldest to the newest.
    pub checkpoints: &'static [Checkpoint],
}

/// Blocks that were on the network's main branch, as a source of that time says.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoint {
    /// When the newest of the blocks was made. RFC 3339.
    pub date: &'static str,
    /// What it is.
    pub what: &'static str,
    /// Where it is from.
    pub origin: &'static str,
    /// The blocks, ascending by chain; one of each chain where it is a cut.
    pub blocks: &'static [KnownBlock],
    /// Headers of these blocks in base64url, one a line; empty where only hashes are known.
    headers: &'static str,
}

/// A block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownBlock {
    /// Its chain.
    pub chain: ChainId,
    /// Its height.
    pub height: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Checkpoint {
    /// The headers of the blocks, in base64url; none where only hashes are known.
    pub fn headers(&self) -> impl Iterator<Item = &'static str> {
        self.headers.lines()
    }
}

/// Every network of which something is known.
pub fn all() -> &'static [Known] {
    &KNOWN
}

/// What is known of the network with this name.
pub fn of(network: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.network == network)
}

static KNOWN: [Known; 2] = [
    Known {
        network: "mainnet01",
        genesis: &MAINNET01_GENESIS,
        genesis_origin: "kadena-io/chainweb-node test/golden/mainnet01-block-hashes-expected.txt",
        checkpoints: &[
            Checkpoint {
                date: "2021-07-16T02:20:37Z",
                what: "a cut",
                origin: "kadena-io/chainweb-db.js test/data/db, recorded from a public node",
                blocks: &MAINNET01_2021,
                headers: include_str!("known/mainnet01-36000812.txt"),
            },
            Checkpoint {
                date: "2025-11-04T18:57:30Z",
                what: "a block of chain 0, 9,735 heights before the community fork (6,335,858)",
                origin: "kadena-io/chainweb-node test/unit/Chainweb/Test/BlockHeader/Validation.hs",
                blocks: &MAINNET01_BEFORE_FORK,
                headers: include_str!("known/mainnet01-6326123.txt"),
            },
            Checkpoint {
                date: "2025-11-15T23:26:15Z",
                what: "the last cut of the nodes that did not take part in the community fork (6,335,858)",
                origin: "kadena-io/chainweb-node README.md, when the network was given up",
                blocks: &MAINNET01_LAST,
                headers: "",
            },
        ],
    },
    Known {
        network: "testnet04",
        genesis: &TESTNET04_GENESIS,
        genesis_origin: "computed of kadena-io/chainweb-node src/Chainweb/BlockHeader/Genesis/Testnet04*Payload.hs",
        checkpoints: &[],
    },
];

const MAINNET01_GENESIS: [KnownBlock; 20] = [
    block(0, 0, "SNAMXHBvZtAbeS19x12bZV2p5d1E4BaxrggceNdUxbw"),
    block(1, 0, "aVFFqF8PbGu-MZkUhb1Ok4XijgxWUYxBxigBQgZmDFI"),
    block(2, 0, "Isgjp62lHk0uXgQfu_HZoeuP3udIiwkBlq1hHvXqXCM"),
    block(3, 0, "tMyy7k6lrQOsGg2oXh20kOC3zudjwsaL9F5Ogx0XNBo"),
    block(4, 0, "yeWKDE27xM45-LgdwpnVMM6E4pAoYryRrJJFgRiaKgQ"),
    block(5, 0, "GmCgnnxUtn08N8WtL8Gpn3Hg6AKyP4q0W0u3NLZn0Zo"),
    block(6, 0, "OXehM2W5YuiV0iWlDGIPMdaRv721zMUbj3caJqZJNBU"),
    block(7, 0, "CAfkqtRJpdf3rNSKx0SRwgaJlSUBLXwF1OMjn2-eBps"),
    block(8, 0, "09qk9ulwtq854ogJwlDZKN7NC_Q3lqiy1jdD0_YvWMI"),
    block(9, 0, "5cwptPDy7u6aMS221qsCr93g6ifDr0WUyvoKhi59-PA"),
    block(10, 852_054, "IQyS92QncmVLSPGiwn2taPayS42F5c3EjjL0DUr7keA"),
    block(11, 852_054, "G0NiGwj1bY2jYnpJ8aL4IJnsNeOLeb-7HD7AhFnrG_k"),
    block(12, 852_054, "OOKvNXgjfmcNzIlcIxAWKZuwEwjLS3Vod-mkhlCRCBY"),
    block(13, 852_054, "9PWw97t5czKEiK92LGFK9LkBToPB8A0AvPpoMmXLEoM"),
    block(14, 852_054, "55Z7RjqtyrZEoxUaZoB4aJIoA0j8ltkwcuAyprdXCng"),
    block(15, 852_054, "gd0FXTl4xqWjybxo4iWcBSZVJ53jV0noteLVwqIh6jA"),
    block(16, 852_054, "ZEulY-ffmUaS4JevaWy113CRTch_-Iu2LVDB2nN2xTM"),
    block(17, 852_054, "7Dop3iLs0VfejT2a8z3OkTfmGeT-_Soxr33TGr-bGMI"),
    block(18, 852_054, "nxSSt7WSfUaxQMmYIjdaoU-EgUHxYUtF449T3K2_Iw0"),
    block(19, 852_054, "y76dr78dPJlFDMPzCc-aEz97iRyimv5Ij3psdVlC64c"),
];

const MAINNET01_2021: [KnownBlock; 20] = [
    block(0, 1_800_041, "GaTyFue0pfBLJKPBdCu2nrsDZ-k4m_nnQ64T2vAeAtc"),
    block(1, 1_800_041, "JqpvOXw5_M-EE9jpT-L1E4r54WFEi-L5FTQqa5rVMMQ"),
    block(2, 1_800_041, "JVCTnBqNKCIQNbpjxHZILyZg8SIQ0kDjfKX1tWoIeX0"),
    block(3, 1_800_040, "hX-kj7kRG6V3IT9-0dyIPfYliVclcgC1F2RC1qNscN0"),
    block(4, 1_800_040, "jUdmBkfpBtIB0wbepAe8kx8RJ8KrJcqJz0lw9cDjTDQ"),
    block(5, 1_800_041, "_MHFjZYioxCSOqGiuwJttZtRbmUIh4rOpqvuTISVXBg"),
    block(6, 1_800_041, "KHLMWjbY-VUder5o2eI7kShJBobnvEjxX8XJXShaXTk"),
    block(7, 1_800_041, "8kl-BI-XAU4HAhlwMmb1zSgIl6fo4G7AahL2BgTURtI"),
    block(8, 1_800_040, "yQK_hdh3-sS3TS3MIyTIOTMLAqW4UuImiQA5BGW3aA4"),
    block(9, 1_800_040, "mDUEapkNXqxNjn7fcKbVSKqh5DpM6hPPc7ATJfmp3eg"),
    block(10, 1_800_041, "QOtKVB4qwIhhdH0SGvc_uq1_ggYop5LRdzqiS9jWrwI"),
    block(11, 1_800_041, "dWvyyUKOqkl6q5F1208nMOxx1-CgI0d0o65fgyfRf9o"),
    block(12, 1_800_041, "0SgirPdvX6qcKy4A6bNfuCBCAUkX9bUP-do8andjFLA"),
    block(13, 1_800_040, "wsf0PlF0pQ2Z7xI_ROvKLJr0f2ZabQMJuKnAgsMZWkw"),
    block(14, 1_800_040, "2mczd2MHRLETBY7LY4qSO9-i8ciHRWrzalcUauMx_vQ"),
    block(15, 1_800_041, "cD1raN2IEcP_qPWQAyNDRy4CeqPb2-W7JnYpapymzCc"),
    block(16, 1_800_041, "URQVfg5O26MHcYLOGGCRR6oVxZK2tFeIMTdz2NkK5Xc"),
    block(17, 1_800_041, "BRt7gzewQnFe1Yf4GiFP5yesRpLH6e6jKf_M_OUrltw"),
    block(18, 1_800_040, "TryXujGNVAeHMmTVVfMk8LzJPKicYqmc9xjMNnxi5Ok"),
    block(19, 1_800_040, "FEWioQxV_ta3KVONPccFpDTSRd3bKz66i78JkyqIGUk"),
];

const MAINNET01_BEFORE_FORK: [KnownBlock; 1] =
    [block(0, 6_326_123, "oFr0iAhZOk9wzbip-WjdlOTN8mZfVn5u7Vsn7hlrdco")];

const MAINNET01_LAST: [KnownBlock; 20] = [
    block(0, 6_357_351, "CNHrpXbArOLo_cgVHt2uxR9MfNtp_1XFmeQEwM9T-_k"),
    block(1, 6_357_350, "iNNoM2Q9u4YmyK0b2pDHcnCHIkW23kbPQhCOT1zxQiA"),
    block(2, 6_357_351, "3Kzxjmlr3v_y-HXojOOZUf-vDd4DsX_egHMIm6eelmo"),
    block(3, 6_357_350, "uRdnAnLhZ4Qc3E_yD5XeSmh_tEU0Wo0wSZl01UAlji8"),
    block(4, 6_357_352, "Jvvh057gHVx4G_9yk0MysTdz7mMcW3ceFCByIy6s0js"),
    block(5, 6_357_351, "Bgn1kKV-ecYytVWzHvM-sqOjryfeznpbOX6DPw8zwdM"),
    block(6, 6_357_351, "_5_sGzH0zVUQA5ca5q2Gv3Oyx0YgwSLrz_pjXBDg-ME"),
    block(7, 6_357_352, "_Ls_T4m_cx69betxqwzWctKE4mB0eA893xVUjCMQRe0"),
    block(8, 6_357_351, "uaEJWHmeURrAN1NfQnbOn2kWOur_MdADLRzsJ7LXHbU"),
    block(9, 6_357_352, "zAuqJpSTj-ZRCfgv1ENnLaw4CVGlGmIHXWQUvoW3d9Q"),
    block(10, 6_357_351, "BdtBPGPtQwtNSmNhxcfhRkg7kveo6rT3vFBnLiVUZbo"),
    block(11, 6_357_351, "fbnLuG-dRWyBbJlT8d0o2oM5JNegZMiT7g0gjUpx3bo"),
    block(12, 6_357_352, "cUJMScJO6dzqsZA2zSmXGJM01vxBjqsdpZAIqQch-tM"),
    block(13, 6_357_351, "WNFyaTjQZ6c0_b67AQ5u3FsvPFvNt9YOhoBCIikjwp0"),
    block(14, 6_357_351, "gelSWQWTFe62OG3064wvLEB81hHB7oUeYm5u04Zyi64"),
    block(15, 6_357_350, "6jaP_ipxnGKla0-2wuXRYjf2mzc2ZsrBP9Yv18zy4WE"),
    block(16, 6_357_349, "CJB2_VHPSQBBa50ki0lgE4HX4RUbL4h8wkxK9Z6CFUw"),
    block(17, 6_357_350, "kcahBEUEON_j7gYscOdayHd773JU_tzGBX_FJjmriGk"),
    block(18, 6_357_351, "S4jq2NbsLR57mdSXR3XLJ2_qLrVvGOsOqvlNEW-cnGc"),
    block(19, 6_357_352, "t8tjoZ-rfr0yUIpbLKqgOQjRO3hYFDEWOwgY5n9taXQ"),
];

const TESTNET04_GENESIS: [KnownBlock; 20] = [
    block(0, 0, "r21zg8E011awAbEghzNBOI4RtKUZ-wHLkUwio-5dKpE"),
    block(1, 0, "V1eZWhoceIl7vmfn5h3U4HvpGSs9Nd66ISgKNMLmi_0"),
    block(2, 0, "FMsDXwQ2OS0NYmDwQsXR4rPyKA9oxJR2XK2OppSCD8E"),
    block(3, 0, "tqjIgeqKe6q-BM4PeNmjHFgKHIWAziJxcgnrOuYInoc"),
    block(4, 0, "9oYwQo4x9xiCzlUzrmG0LOQW_rS3zRB4MtiOgpZmoMQ"),
    block(5, 0, "wXSuR_3WBkrdEV4proOm1YS4pBiX4uZI_KrNQfr24ls"),
    block(6, 0, "87afzutvMr9I2oZowgQbWBG8VJsN5rWtDB8SU19YaTA"),
    block(7, 0, "0fnoDkGf2KaY1SBwhrBD_2eXEUlrytKOXTWY0wNZ534"),
    block(8, 0, "hfRjRAhE8Fn8WJNz0R8Ku-W72RdzgQVXJDvzz5hIi_Q"),
    block(9, 0, "sM9OUZFlk4GHkBaW3dYG4LsU4TQslPzG6FkO0gr6Kro"),
    block(10, 332_604, "lTpiG_9bLbyKp7hmWq8M3jwkCtRUREhWW3nyU1YJAV4"),
    block(11, 332_604, "UQ2pi14AbFoY2uRN6a_LLgFQR-o0NpYAEMBlv-6wYys"),
    block(12, 332_604, "dRH0yn5kXKnt7gGqJIzQipsIbqkxNDs2RreNYNfknTU"),
    block(13, 332_604, "rF1wm-g3QbhPRmsEZZncHxAq0BHsGveN3Tc2gJvi2Ag"),
    block(14, 332_604, "zz3XKGns0zhrn3sUo9hul3JA9E_rwYJbDhs54ClQsJ0"),
    block(15, 332_604, "Xg5YrIrW8i2Bw2yaK0Hw5qFBNQv5NA5v78Zj5bhXDeI"),
    block(16, 332_604, "z8gMvZAtnm4ejpgtkiB5KuMgGs9XtrysVJprGdoHbUQ"),
    block(17, 332_604, "tOerMVBv5NcJjh4c40W22FZ89poibtBlz-yQl4NM7lw"),
    block(18, 332_604, "VsDfA3fyhpKdPR-KWzBARmh5htuBLnQe7ZXcLIphSaw"),
    block(19, 332_604, "ScaDZyeTNseqh6bdbG0bu_2BT83afeMrR9pxf68T8rw"),
];

/// A block whose hash is given in base64url; a text that is none does not compile.
const fn block(chain: u32, height: u64, hash: &str) -> KnownBlock {
    KnownBlock { chain: ChainId(chain), height, hash: Hash(decode(hash.as_bytes())) }
}

/// Decodes the 43 digits of a hash.
const fn decode(text: &[u8]) -> [u8; 32] {
    assert!(text.len() == 43, "a hash has 43 digits");
    let mut hash = [0; 32];
    let (mut bits, mut count, mut at, mut filled) = (0_u32, 0, 0, 0);
    while at < text.len() {
        bits = (bits << 6 | digit(text[at])) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            hash[filled] = (bits >> count) as u8; // the bits above are those of the bytes before
            filled += 1;
        }
        at += 1;
    }
    assert!(bits & ((1 << count) - 1) == 0, "bits that are not used are zero");
    hash
}

const fn digit(letter: u8) -> u32 {
    match letter {
        b'A'..=b'Z' => letter as u32 - 65,
        b'a'..=b'z' => letter as u32 - 97 + 26,
        b'0'..=b'9' => letter as u32 - 48 + 52,
        b'-' => 62,
        b'_' => 63,
        _ => panic!("not a digit of base64url"),
    }
}
