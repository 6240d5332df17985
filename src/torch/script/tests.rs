use fixtures::{DIMENSION, INPUT, PARTS, ProgramBehaviour, program};

use super::*;
use crate::{runtime, trial_run::TrialRunError};

fn signature(parts: Option<usize>) -> Signature {
    Signature { input: INPUT, dimension: DIMENSION, parts }
}

fn load(behaviour: ProgramBehaviour) -> Result<Script, NetworkError> {
    let _inference = runtime::prepare_thread();
    let parts =
        matches!(behaviour, ProgramBehaviour::Parts | ProgramBehaviour::VisibleBeyondOne | ProgramBehaviour::Pair)
            .then_some(PARTS);
    Script::load(&program(behaviour), signature(parts))
}

fn flaw(behaviour: ProgramBehaviour) -> TrialRunError {
    match load(behaviour).expect_err("it is flawed") {
        NetworkError::TrialRun(flaw) => flaw,
        other => panic!("{behaviour:?}: {other}"),
    }
}

fn fault(behaviour: ProgramBehaviour) -> ScriptError {
    match load(behaviour).expect_err("it is at fault") {
        NetworkError::Script(fault) => fault,
        other => panic!("{behaviour:?}: {other}"),
    }
}

#[test]
fn a_sound_program_answers() {
    let script = load(ProgramBehaviour::Sound).expect("sound");
    let length: usize = INPUT.iter().product();
    let (ones, mut input) = (vec![1.0; length], vec![-1.0; length]);
    input.extend_from_slice(&ones);
    let answers = script.forward(&input, 2).expect("it runs");
    assert_eq!((answers.embeddings.len(), &answers.visibility), (2 * DIMENSION, &None));
    let (first, second) = answers.embeddings.split_at(DIMENSION);
    assert!(first.iter().zip(second).all(|(minus, plus)| (minus + plus).abs() < 1e-6));
    // Three channels of ones: the column sums of the matrix, the first computed by hand.
    assert!((second[0] - (3.0 + 1.0 + 10.0) / 11.0 + 1.2).abs() < 1e-6, "{second:?}");
    assert!(matches!(script.forward(&ones, 2), Err(NetworkError::WrongInput { .. })));
    assert!(matches!(script.forward(&[], 0), Err(NetworkError::EmptyBatch)));
}

#[test]
fn a_program_with_parts_gives_their_visibility() {
    let script = load(ProgramBehaviour::Parts).expect("sound");
    let plane = INPUT[1] * INPUT[2];
    let input: Vec<f32> = [1.0, -1.0, 0.0].into_iter().flat_map(|mean| vec![mean; plane]).collect();
    let answers = script.forward(&input, 1).expect("it runs");
    assert_eq!(answers.visibility, Some(vec![1.0, 0.0, 1.0]));
    assert_eq!(answers.embeddings.len(), DIMENSION);
}

#[test]
fn each_flaw_of_a_program_has_its_error() {
    assert_eq!(flaw(ProgramBehaviour::NotANumber), TrialRunError::NotFinite);
    assert!(matches!(flaw(ProgramBehaviour::OverTheBatch), TrialRunError::BatchDependent(_)));
    assert!(matches!(flaw(ProgramBehaviour::Dropout), TrialRunError::Random(_)));
    assert!(matches!(flaw(ProgramBehaviour::Noise), TrialRunError::Random(_)));
    assert_eq!(flaw(ProgramBehaviour::Constant), TrialRunError::Constant);
    let narrow = ScriptError::WrongShape { what: "answer", expected: [3, 6], found: vec![3, 5] };
    assert_eq!(fault(ProgramBehaviour::Narrow), narrow);
    assert_eq!(fault(ProgramBehaviour::Complex), ScriptError::NotNumbers("answer"));
    let pair = ScriptError::WrongShape { what: "visibility", expected: [3, 3], found: vec![3, 6] };
    assert_eq!(fault(ProgramBehaviour::Pair), pair);
    assert!(matches!(fault(ProgramBehaviour::VisibleBeyondOne), ScriptError::Visibility(_)));
}

#[test]
fn a_program_of_another_signature_is_refused() {
    let _inference = runtime::prepare_thread();
    let refused = |behaviour, signature| match Script::load(&program(behaviour), signature) {
        Err(NetworkError::Script(fault)) => fault,
        other => panic!("{other:?}"),
    };
    let expected = "a tuple of two tensors";
    let whole = ScriptError::WrongAnswer { expected, found: "one tensor" };
    assert_eq!(refused(ProgramBehaviour::Sound, signature(Some(PARTS))), whole);
    let parts = ScriptError::WrongAnswer { expected: "one tensor", found: "a tuple" };
    assert_eq!(refused(ProgramBehaviour::Parts, signature(None)), parts);
    let four = refused(ProgramBehaviour::Sound, Signature { input: [4, 8, 4], ..signature(None) });
    let ScriptError::Failed { batch: 3, problem, .. } = four else { panic!("{four}") };
    assert!(problem.contains("mat1 and mat2"), "{problem}");
}

#[test]
fn files_that_are_not_programs_are_refused() {
    let _inference = runtime::prepare_thread();
    let sound = program(ProgramBehaviour::Sound);
    let garbage: [&[u8]; 5] = [b"", b"PK\x03\x04", &[0; 4096], &sound[..sound.len() / 2], &sound[..sound.len() - 1]];
    for bytes in garbage {
        let error = Script::load(bytes, signature(None)).expect_err("no program");
        assert!(matches!(error, NetworkError::Script(ScriptError::Unreadable(_))), "{error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn a_flipped_bit_never_ends_the_process() {
    let _inference = runtime::prepare_thread();
    let sound = program(ProgramBehaviour::Sound);
    // libtorch decides whether the program still loads; afterwards it must return an output or an error.
    for at in (0..sound.len()).step_by(sound.len() / 97) {
        let mut flipped = sound.clone();
        flipped[at] ^= 0x10;
        if let Ok(script) = Script::load(&flipped, signature(None)) {
            assert_eq!(script.forward(&vec![1.0; 96], 1).expect("it passed its trial").embeddings.len(), DIMENSION);
        }
    }
}
