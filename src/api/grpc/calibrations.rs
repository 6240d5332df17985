//! Calibrations over gRPC.

use tonic::{Request, Response, Status};

use super::{Services, respond};
use crate::{
    api::{
        proto::{self, calibration_service_server::CalibrationService},
        wire::{self, CalibrationName, CollectionName, PageRequest, SampleDefaults},
    },
    matcher::{Activation, CalibrationDraft, Context, Fault},
};
use domain::SpaceName;

#[tonic::async_trait]
impl CalibrationService for Services {
    async fn create_calibration(
        &self,
        request: Request<proto::CreateCalibrationRequest>,
    ) -> Result<Response<proto::Calibration>, Status> {
        respond(self.answer_create_calibration(request).await)
    }

    async fn get_calibration(
        &self,
        request: Request<proto::GetCalibrationRequest>,
    ) -> Result<Response<proto::Calibration>, Status> {
        respond(self.answer_get_calibration(&request.into_inner().name).await)
    }

    async fn list_calibrations(
        &self,
        request: Request<proto::ListCalibrationsRequest>,
    ) -> Result<Response<proto::ListCalibrationsResponse>, Status> {
        respond(self.answer_list_calibrations(request.into_inner()).await)
    }

    async fn activate_calibration(
        &self,
        request: Request<proto::ActivateCalibrationRequest>,
    ) -> Result<Response<proto::Calibration>, Status> {
        let context = wire::context(&request);
        respond(self.set_active(&context, &request.get_ref().name, Activation::Activate).await)
    }

    async fn deactivate_calibration(
        &self,
        request: Request<proto::DeactivateCalibrationRequest>,
    ) -> Result<Response<proto::Calibration>, Status> {
        let context = wire::context(&request);
        respond(self.set_active(&context, &request.get_ref().name, Activation::Deactivate).await)
    }

    async fn delete_calibration(
        &self,
        request: Request<proto::DeleteCalibrationRequest>,
    ) -> Result<Response<()>, Status> {
        respond(self.answer_delete_calibration(&request).await)
    }
}

impl Services {
    async fn answer_create_calibration(
        &self,
        request: Request<proto::CreateCalibrationRequest>,
    ) -> Result<proto::Calibration, Fault> {
        let (context, request) = self.once(request).await?;
        let defaults = SampleDefaults::from(&request);
        let proto::CreateCalibrationRequest { parent, modality, model, outsiders, .. } = request;
        let CollectionName(collection) = CollectionName::parse("parent", &parent)?;
        let has_modality = modality != 0;
        let draft = CalibrationDraft {
            collection: collection.clone(),
            modality: has_modality.then(|| wire::modality("modality", modality)).transpose()?,
            model: match model.as_str() {
                "" => None,
                model => Some(SpaceName::new(model).map_err(|e| Fault::invalid("model", e))?),
            },
            outsiders: wire::samples("outsiders", outsiders, &defaults)?,
        };
        Ok(wire::calibrated(&collection, &self.matcher.calibrations.create_calibration(&context, draft).await?))
    }

    async fn answer_get_calibration(&self, name: &str) -> Result<proto::Calibration, Fault> {
        let CalibrationName { collection, calibration } = CalibrationName::parse("name", name)?;
        Ok(wire::calibrated(&collection, &self.matcher.calibrations.calibration(&collection, calibration).await?))
    }

    async fn answer_list_calibrations(
        &self,
        request: proto::ListCalibrationsRequest,
    ) -> Result<proto::ListCalibrationsResponse, Fault> {
        let parent = CollectionName::parse("parent", &request.parent)?;
        let list = format!("{parent} calibrations");
        let page = PageRequest::parse(request.page_size, &request.page_token, &list)?;
        let after = page.after.as_deref().map(str::parse).transpose()?;
        let found = self.matcher.calibrations.list_calibrations(&parent.0, after, page.limit).await?;
        let next = (found.len() == page.limit as usize).then(|| found.last().map(|c| c.kept.id.to_string())).flatten();
        Ok(proto::ListCalibrationsResponse {
            calibrations: found.iter().map(|c| wire::calibrated(&parent.0, c)).collect(),
            next_page_token: wire::token(next, &list),
        })
    }

    async fn set_active(
        &self,
        context: &Context,
        name: &str,
        activation: Activation,
    ) -> Result<proto::Calibration, Fault> {
        let CalibrationName { collection, calibration } = CalibrationName::parse("name", name)?;
        let activated =
            self.matcher.calibrations.activate_calibration(context, &collection, calibration, activation).await?;
        Ok(wire::calibrated(&collection, &activated))
    }

    async fn answer_delete_calibration(&self, request: &Request<proto::DeleteCalibrationRequest>) -> Result<(), Fault> {
        let context = wire::context(request);
        let CalibrationName { collection, calibration } = CalibrationName::parse("name", &request.get_ref().name)?;
        self.matcher.calibrations.delete_calibration(&context, &collection, calibration).await
    }
}
