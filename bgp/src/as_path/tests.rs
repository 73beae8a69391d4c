use proptest::prelude::*;

use super::*;

fn path(text: &str) -> AsPath {
    text.parse().unwrap()
}

#[test]
fn two_and_four_octet_numbers_make_the_same_path() {
    let two = AsPath::from_wire(&[2, 2, 0xFB, 0xF0, 0xFB, 0xF1], AsnWidth::Two);
    let four = AsPath::from_wire(&[2, 2, 0, 0, 0xFB, 0xF0, 0, 0, 0xFB, 0xF1], AsnWidth::Four);
    assert_eq!(two, Ok(path("64496 64497")));
    assert_eq!(four, two);
}

#[test]
fn each_malformation_is_named_with_its_place() {
    use InvalidAsPath::*;
    let good = [2, 1, 0, 0, 0, 9];
    for (tail, error) in [
        (&[2][..], Underrun(6)),
        (&[2, 0], EmptySegment(6)),
        (&[2, 1, 0, 0, 9], Overrun { offset: 6, count: 1 }),
        (&[3, 1, 0, 0, 0, 9], Confederation(6)),
        (&[4, 1, 0, 0, 0, 9], Confederation(6)),
        (&[0, 1, 0, 0, 0, 9], Kind { offset: 6, kind: 0 }),
        (&[5, 1, 0, 0, 0, 9], Kind { offset: 6, kind: 5 }),
        (&[1, 2, 0, 0, 0, 9, 0, 0, 0, 0], Zero(6)),
    ] {
        let value = [&good[..], tail].concat();
        assert_eq!(AsPath::from_wire(&value, AsnWidth::Four), Err(error), "{tail:?}");
    }
}

#[test]
fn a_set_is_one_hop_and_neither_neighbor_nor_origin() {
    let plain = path("64496 64497 64496");
    assert_eq!((plain.hop_count(), plain.count(Asn(64_496)), plain.has_set()), (3, 2, false));
    assert_eq!((plain.neighbor(), plain.origin()), (Some(Asn(64_496)), Some(Asn(64_496))));

    let aggregated = path("64496 {64498,64499}");
    assert_eq!((aggregated.hop_count(), aggregated.has_set()), (2, true));
    assert_eq!((aggregated.neighbor(), aggregated.origin()), (Some(Asn(64_496)), None));
    assert!(aggregated.contains(Asn(64_499)) && !aggregated.contains(Asn(64_497)));

    assert_eq!(path("{64498} 64496").neighbor(), None);
    assert_eq!((AsPath::EMPTY.neighbor(), AsPath::EMPTY.origin()), (None, None));
    assert_eq!((AsPath::EMPTY.hop_count(), AsPath::EMPTY.is_empty()), (0, true));
}

#[test]
fn prepending_joins_a_sequence_and_goes_before_a_set() {
    assert_eq!(path("2 3").prepended(Asn(1), 2), path("1 1 2 3"));
    assert_eq!(path("{2,3}").prepended(Asn(1), 1), path("1 {2,3}"));
    assert_eq!(AsPath::EMPTY.prepended(Asn(1), 1), path("1"));
    assert_eq!(path("2").prepended(Asn(1), 0), path("2"));
}

#[test]
fn a_full_segment_gets_another_before_it() {
    let full = AsPath::sequence(&[Asn(2); 255]);
    let longer = full.prepended(Asn(1), 1);
    let counts: Vec<usize> = longer.segments().map(|segment| segment.numbers().count()).collect();
    assert_eq!(counts, [1, 255]);
    assert_eq!(longer.hop_count(), 256);
    assert_eq!(AsPath::from_wire(longer.as_wire(), AsnWidth::Four), Ok(longer));
}

#[test]
fn numbers_are_replaced_or_left_out_with_the_segments_they_empty() {
    let private = path("64512 64496 {65534} 64497");
    let public = private.mapped(|asn| (!asn.is_private()).then_some(asn));
    assert_eq!(public.to_string(), "64496 64497");
    let overridden = path("64496 64497").mapped(|asn| match asn {
        Asn(64_496) => Some(Asn(1)),
        asn => Some(asn),
    });
    assert_eq!(overridden, path("1 64497"));
}

#[test]
fn an_as4_path_replaces_the_hops_that_it_knows() {
    let as4 = path("4200000000 64499");
    assert_eq!(path("64496 23456 64499").joined(&as4), {
        let mut wire = path("64496").as_wire().to_vec();
        wire.extend_from_slice(as4.as_wire());
        AsPath::from_wire(&wire, AsnWidth::Four).unwrap()
    });
    assert_eq!(path("64496").joined(&as4), path("64496"));
    assert_eq!(path("23456 64499").joined(&as4), as4);
    assert_eq!(path("1 {2,3} 4").joined(&path("9")).to_string(), "1 {2,3} 9");
}

#[test]
fn text_that_is_no_path_is_refused() {
    for text in ["x", "0", "1,2", "{1,2", "{}", "{1,}", "1 {0}", "1.1"] {
        assert!(text.parse::<AsPath>().is_err(), "{text}");
    }
    assert_eq!(path(""), AsPath::EMPTY);
}

#[test]
fn five_hops_need_no_allocation() {
    assert_eq!(path("1 2 3 4 5").heap_bytes(), 0);
    assert_eq!(path("1 2 3 4 5 6").heap_bytes(), 26);
}

proptest! {
    #[test]
    fn any_bytes_give_an_error_or_the_path_they_show(
        bytes in prop::collection::vec(prop_oneof![0_u8..4, any::<u8>()], 0..40),
    ) {
        if let Ok(path) = AsPath::from_wire(&bytes, AsnWidth::Four) {
            prop_assert_eq!(path.as_wire(), &bytes);
            prop_assert_eq!(path.prepended(Asn(1), 3).hop_count(), path.hop_count() + 3);
            let shown: AsPath = path.to_string().parse().unwrap();
            prop_assert!(shown.numbers().eq(path.numbers()));
            prop_assert_eq!(path.joined(&path), path);
        }
        let _ = AsPath::from_wire(&bytes, AsnWidth::Two);
    }
}
