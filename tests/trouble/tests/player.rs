//! The player itself: what it plays is the same again, and it tells good from bad.

use killick_trouble::runs::{Player, bugs};

#[test]
fn a_death_at_a_boundary_is_the_same_tale_whenever_it_is_told() {
    let (mut one, mut other) = (Player::new().unwrap(), Player::new().unwrap());
    // The seeds of short stories: one of each.
    for seed in [46, 47, 54, 55] {
        let ((verdict, tale), (again, told)) =
            (one.play(seed, None).unwrap(), other.play(seed, None).unwrap());
        assert!(verdict.is_clean() && again.is_clean(), "{verdict} {again}");
        assert!(tale.long.contains("is told of, version 1"), "{}", tale.long);
        assert_eq!((tale.short, tale.long), (told.short, told.long));
    }
}

#[test]
fn scenarios_of_every_kind_end_well_and_are_counted() {
    let mut seeds = Vec::new();
    let sum =
        Player::new().unwrap().run(16..24, |seed, _, tale| seeds.push((seed, tale.short.clone()))).unwrap();
    assert!(sum.is_clean(), "{sum}");
    let line = sum.to_string();
    let zeros = " unanchored=0 doubled=0 above_orphan=0 changed_bytes=0 alarms_missed=0";
    assert!(line.starts_with("scenarios=8 anchors=") && line.ends_with(zeros), "{line}");
    for (seed, kind) in
        (16..).zip(["Everything", "Deep", "Parted", "Away", "Zombies", "Revival", "Point", "Point"])
    {
        assert!(seeds.iter().any(|(of, tale)| *of == seed && tale.starts_with(kind)), "{seeds:?}");
    }
}

#[test]
fn a_bug_is_caught_and_named() {
    let mut player = Player::new().unwrap();
    let (_, bug) = bugs().find(|(name, _)| *name == "signed-anew").unwrap();
    let (count, how) = player.hunt(0, bug).unwrap().unwrap();
    assert!(count < 20 && how.contains("changed_bytes"), "{how}");
}
