//! Keypoint prompts: joints as heat map channels of a network's input. They select one of several people in a crop.
//!
//! Each joint is a Gaussian of height 1 with the width of KPR (Somers et al. 2024); joints of other people are
//! negative.

use domain::{JOINTS, Joint, Prompt, PromptRole};

/// Minimum joint score.
const SCORE_MIN: f32 = 0.3;
/// Radius of a Gaussian as a share of the input's width.
const REACH_SHARE: f32 = 1.0 / 11.0;

/// Maps pixels of the picture to pixels of the input.
#[derive(Debug, Clone, Copy)]
pub(super) struct InputMapping {
    /// Corner of the encoded region, in pixels of the picture.
    pub(super) corner: [f32; 2],
    /// Input pixels per picture pixel along width and height.
    pub(super) scale: [f32; 2],
    /// Width and height of the input in pixels.
    pub(super) input: [usize; 2],
}

/// `[channels, height, width]` heat maps: one channel for all joints, or 17 channels in COCO order. The value is the
/// maximum over the subject's joints minus the maximum over the joints of others.
pub(super) fn heat_maps(prompts: &[Prompt], channels: usize, mapping: &InputMapping) -> Vec<f32> {
    let [width, height] = mapping.input;
    let mut maps = vec![0.0; channels * width * height];
    if channels == 0 {
        return maps;
    }
    let mut others = maps.clone();
    for prompt in prompts {
        let onto = match prompt.role {
            PromptRole::Subject => &mut maps,
            PromptRole::Other => &mut others,
        };
        for (number, joint) in prompt.joints.iter().enumerate().filter(|(_, joint)| joint.score >= SCORE_MIN) {
            let channel = if channels == JOINTS { number } else { 0 };
            draw(&mut onto[channel * width * height..][..width * height], joint, mapping);
        }
    }
    maps.iter_mut().zip(&others).for_each(|(subject, other)| *subject -= other);
    maps
}

fn draw(map: &mut [f32], joint: &Joint, mapping: &InputMapping) {
    let width = mapping.input[0];
    let place = |at: f32, axis: usize| (at - mapping.corner[axis] + 0.5) * mapping.scale[axis] - 0.5;
    let (x, y) = (place(joint.x, 0), place(joint.y, 1));
    let reach = (width as f32 * REACH_SHARE).max(1.0);
    let deviation = (2.0 * reach + 1.0) / 4.0;
    for (row, values) in map.chunks_exact_mut(width).enumerate() {
        let down = row as f32 - y;
        if down.abs() > reach {
            continue;
        }
        for (column, value) in values.iter_mut().enumerate() {
            let along = column as f32 - x;
            if along.abs() <= reach {
                let height = (-(along * along + down * down) / (2.0 * deviation * deviation)).exp();
                *value = value.max(height);
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "numbers that no rounding touches")]
mod tests {
    use super::*;

    const MAPPING: InputMapping = InputMapping { corner: [10.0, 20.0], scale: [0.5, 0.5], input: [44, 60] };

    fn prompt(role: PromptRole, joints: &[[f32; 3]]) -> Prompt {
        let joints = joints.iter().map(|[x, y, score]| Joint { x: *x, y: *y, score: *score }).collect();
        Prompt { joints, role }
    }

    fn at(map: &[f32], x: usize, y: usize) -> f32 {
        map[y * 44 + x]
    }

    #[test]
    fn joints_are_mapped_to_the_input() {
        let map = heat_maps(&[prompt(PromptRole::Subject, &[[50.5, 60.5, 0.9]])], 1, &MAPPING);
        assert_eq!(map.len(), 44 * 60);
        let highest = map.iter().copied().fold(0.0, f32::max);
        assert!(at(&map, 20, 20) == highest && highest > 0.95, "{highest}");
        assert!(at(&map, 22, 20) < highest && at(&map, 22, 20) > 0.2);
        assert_eq!(at(&map, 30, 20), 0.0);
    }

    #[test]
    fn joints_of_others_are_negative_and_low_scores_are_ignored() {
        let both =
            [prompt(PromptRole::Subject, &[[30.0, 40.0, 0.9]]), prompt(PromptRole::Other, &[[70.0, 100.0, 0.9]])];
        let map = heat_maps(&both, 1, &MAPPING);
        assert!(at(&map, 10, 10) > 0.9 && at(&map, 30, 40) < -0.9);
        let unseen = heat_maps(&[prompt(PromptRole::Subject, &[[30.0, 40.0, 0.1]])], 1, &MAPPING);
        assert!(unseen.iter().all(|value| *value == 0.0));
    }

    #[test]
    fn seventeen_channels_hold_a_joint_each() {
        let map = heat_maps(&[prompt(PromptRole::Subject, &[[30.0, 40.0, 0.9], [50.0, 60.0, 0.9]])], JOINTS, &MAPPING);
        let channel = |number: usize| &map[number * 44 * 60..][..44 * 60];
        assert!(at(channel(0), 10, 10) > 0.9 && at(channel(0), 20, 20) == 0.0);
        assert!(at(channel(1), 20, 20) > 0.9 && at(channel(1), 10, 10) == 0.0);
        assert!(channel(2).iter().all(|value| *value == 0.0));
    }

    #[test]
    fn joints_outside_of_the_crop_are_ignored() {
        let far = prompt(PromptRole::Subject, &[[-1e6, 1e6, 1.0], [1e30, -1e30, 1.0]]);
        assert!(heat_maps(&[far], 1, &MAPPING).iter().all(|value| *value == 0.0));
    }
}
