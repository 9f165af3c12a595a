use super::*;

fn falling(name: &str, steps: usize, from: f64) -> Curve {
    let losses = (1..=steps).map(|step| (step, from / step as f64)).collect();
    Curve { name: name.into(), losses, validation: vec![(steps / 2, 1.25), (steps, 0.75)] }
}

/// The points of the lines of a colour, in order.
fn points(svg: &str, colour: RGBColor) -> Vec<Vec<(f64, f64)>> {
    let of_colour = format!("stroke=\"{}\"", hex(colour));
    let lines =
        svg.lines().filter(|line| line.starts_with("<polyline") && line.contains(&of_colour));
    let points = lines.map(|line| {
        let text = line.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        let pair = |pair: &str| {
            let (x, y) = pair.split_once(',').unwrap();
            (x.parse().unwrap(), y.parse().unwrap())
        };
        text.split_whitespace().map(pair).collect()
    });
    points.collect()
}

#[test]
fn a_curve_is_drawn_from_left_to_right_and_falls() {
    let svg = svg(&[falling("", 40, 5.5)]).unwrap();
    let lines = points(&svg, RUNS[0].1);
    let losses = lines.iter().find(|points| points.len() == 40).unwrap();
    assert!(losses.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
    // In a picture y counts downwards: the highest loss stands near its top.
    assert!(losses[0].1 < 40.0 && losses[39].1 > 300.0, "{:?}", (losses[0], losses[39]));
    assert!(lines.iter().any(|points| points.len() == 2), "the validation losses");
    let told = "<desc>training: from 5.5000 at step 1 to 0.1375 at step 40. \
                validation: from 1.2500 at step 20 to 0.7500 at step 40.</desc>";
    assert!(svg.contains(told), "{svg}");
    assert_eq!(svg.matches("<circle").count(), 3, "two losses, and one in the legend");
}

#[test]
fn runs_have_their_own_colours_and_names() {
    let svg = svg(&[falling("wide & deep", 20, 5.0), falling("b", 20, 4.0)]).unwrap();
    for (colour, from) in [(RUNS[0].1, 5.0), (RUNS[1].1, 4.0)] {
        let lines = points(&svg, colour);
        assert!(lines.iter().any(|points| points.len() == 20), "the run that starts at {from}");
    }
    let height = |colour| points(&svg, colour).iter().find(|p| p.len() == 20).unwrap()[0].1;
    assert!(height(RUNS[0].1) < height(RUNS[1].1), "they share an axis");
    assert!(svg.contains("wide &amp; deep, training") && svg.contains("b, validation"));
}

#[test]
fn it_is_readable_on_white_in_the_dark_and_inside_a_page() {
    let svg = svg(&[falling("", 5, 5.5)]).unwrap();
    let (style, drawn) = svg.split_once("</style>").unwrap();
    let (light, dark) = style.split_once("@media screen and (prefers-color-scheme: dark)").unwrap();
    for (_, colour, shown) in PAGE.into_iter().chain(RUNS.into_iter().take(1)) {
        let colour = hex(colour);
        assert!(drawn.contains(&colour), "{colour} is drawn");
        assert!(light.contains(&format!("[stroke=\"{colour}\"] {{ stroke: var(")), "{colour}");
        assert!(dark.contains(&format!("[stroke=\"{colour}\"] {{ stroke: var(")), "{colour}");
        assert!(dark.contains(shown), "{colour} in the dark");
    }
    let unknown = drawn.split('"').filter(|word| word.starts_with('#'));
    let known: Vec<_> = PAGE.iter().chain(&RUNS).map(|colour| hex(colour.1)).collect();
    let unknown: Vec<_> = unknown.filter(|colour| !known.contains(&(*colour).to_owned())).collect();
    assert!(unknown.is_empty(), "they stay as they are in the dark: {unknown:?}");
}

#[test]
fn what_cannot_be_drawn_is_said() {
    let said = |curves: &[Curve]| svg(curves).unwrap_err().to_string();
    assert_eq!(said(&[]), "there is no step to draw");
    assert_eq!(said(&vec![falling("a", 3, 1.0); 7]), "7 runs are too many for one picture: draw 6");
    // A run of one step, or one that learns nothing, has a picture all the same.
    svg(&[Curve { losses: vec![(3, 2.0)], ..Curve::default() }]).unwrap();
    let svg = svg(&[falling("", 100_000, 5.5)]).unwrap();
    assert!(
        svg.contains("A point is the mean of 167 steps.") && svg.len() < 40_000,
        "{}",
        svg.len()
    );
}
