//! Gait energy images (Han and Bhanu 2006): the mean silhouette of a walk, compared as a picture. A baseline for gait
//! encoders if silhouettes exist.

use std::path::Path;

use super::EvaluateError;

/// Side of the stored pictures in pixels.
const SIDE: u32 = 128;
/// After halving, columns removed on each side: 44 x 64, the size for silhouette encoders.
const COLUMNS_OFF: u32 = 10;

/// A picture with mean zero and norm one.
pub(super) type Energy = Vec<f32>;

/// The picture of a walk `<name>.json`: `<name>_gei.png` in the person's folder or in `folder`.
pub(super) fn image_of(folder: &Path, walk: &Path) -> Result<Energy, EvaluateError> {
    let name = walk.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    let person = walk.parent().and_then(Path::file_name).unwrap_or_default();
    let file = format!("{name}_gei.png");
    let path = [folder.join(person).join(&file), folder.join(&file)];
    let path = path.iter().find(|path| path.is_file()).unwrap_or(&path[0]);
    let layout = |problem: String| EvaluateError::Layout { path: path.clone(), problem };
    let bytes = super::files::read(path)?;
    let picture = image::load_from_memory(&bytes).map_err(|error| layout(error.to_string()))?.into_luma8();
    if picture.dimensions() != (SIDE, SIDE) {
        return Err(layout(format!("a gait-energy image has {SIDE} x {SIDE} pixels")));
    }
    let halved = |x: u32, y: u32| -> f32 {
        [(0, 0), (0, 1), (1, 0), (1, 1)]
            .map(|(dx, dy)| f32::from(picture.get_pixel(2 * x + dx, 2 * y + dy).0[0]))
            .iter()
            .sum()
    };
    let columns = COLUMNS_OFF..SIDE / 2 - COLUMNS_OFF;
    Ok(normalised(
        (0..SIDE / 2).flat_map(|y| columns.clone().map(move |x| (x, y))).map(|(x, y)| halved(x, y)).collect(),
    ))
}

fn normalised(mut pixels: Vec<f32>) -> Energy {
    let mean = pixels.iter().sum::<f32>() / pixels.len() as f32;
    for pixel in &mut pixels {
        *pixel -= mean;
    }
    let length = correlation(&pixels, &pixels).sqrt().max(f32::MIN_POSITIVE);
    for pixel in &mut pixels {
        *pixel /= length;
    }
    pixels
}

/// The correlation, -1 to 1.
pub(super) fn correlation(one: &Energy, other: &Energy) -> f32 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brightness_and_contrast_do_not_matter() {
        let one = normalised(vec![1.0, 2.0, 5.0, 0.0]);
        let brighter = normalised(vec![12.0, 14.0, 20.0, 10.0]);
        assert!((correlation(&one, &brighter) - 1.0).abs() < 1e-6);
        assert!(correlation(&one, &normalised(vec![5.0, 2.0, 1.0, 9.0])) < 0.0);
        assert!(normalised(vec![3.0; 4]).iter().all(|pixel| pixel.is_finite()));
    }
}
