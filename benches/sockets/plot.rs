//! The ratios to the floor, as a picture.

use std::{fs::create_dir_all, path::Path};

use plotters::prelude::*;

use crate::{
    Result,
    report::Runs,
    scenarios::{Figure, Work},
};

/// One for each contender, in their order.
const COLOURS: [RGBColor; 4] =
    [RGBColor(176, 176, 170), RGBColor(47, 111, 94), RGBColor(112, 160, 140), RGBColor(180, 84, 31)];
const ROW: u32 = 81;

/// Draws the fan-out scenarios: one group of bars each, one bar a contender.
pub(crate) fn draw(path: &Path, all: &[Runs]) -> Result<()> {
    let shown: Vec<_> = all
        .iter()
        .filter(|runs| runs.scenario.figure == Figure::Cpu)
        .filter(|runs| {
            runs.scenario.contenders.iter().map(|c| &*c.name).eq(["floor", "rooms", "rooms on warp", "handwritten"])
        })
        .filter(|runs| matches!(runs.scenario.contenders.first().map(|c| c.work), Some(Work::FanOut { .. })))
        .collect();
    if shown.is_empty() {
        return Ok(());
    }
    create_dir_all(path.parent().ok_or("no folder")?)?;
    let height = 70 + ROW * shown.len() as u32;
    let area = SVGBackend::new(path, (880, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let widest = shown
        .iter()
        .flat_map(|runs| (0..COLOURS.len()).filter_map(|place| Some(runs.ratio(place)?.median)))
        .fold(1.0, f64::max);
    let scale = |ratio: f64| 250 + (ratio / widest * 500.0) as i32;
    let text = ("sans-serif", 13).into_font();
    area.draw(&Text::new(
        "CPU time of the server for one delivery, as a ratio to write(2) alone",
        (12, 10),
        ("sans-serif", 15).into_font(),
    ))?;
    for (row, runs) in shown.iter().enumerate() {
        let top = 40 + (ROW * row as u32) as i32;
        area.draw(&Text::new(runs.scenario.name, (12, top + 18), text.clone()))?;
        for (place, (contender, colour)) in runs.scenario.contenders.iter().zip(COLOURS).enumerate() {
            let Some(ratio) = runs.ratio(place) else { continue };
            let bar = top + place as i32 * 17;
            area.draw(&Rectangle::new([(250, bar), (scale(ratio.median), bar + 14)], colour.filled()))?;
            let label = format!("{:.2} {}", ratio.median, contender.name);
            area.draw(&Text::new(label, (scale(ratio.median) + 5, bar + 1), ("sans-serif", 12).into_font()))?;
        }
    }
    let bottom = 40 + (ROW * shown.len() as u32) as i32;
    area.draw(&PathElement::new(vec![(scale(1.0), 34), (scale(1.0), bottom)], BLACK.mix(0.4)))?;
    area.present()?;
    Ok(())
}
